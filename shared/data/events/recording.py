"""A recording of an event camera, whatever its file format, as a stream of clean events."""

from collections.abc import Iterator
from pathlib import Path

from shared.data.events.chunk import RawChunk
from shared.data.events.cleaning import Cleaner
from shared.data.events.dat import DatFile
from shared.data.events.hdf5 import Hdf5File
from shared.data.events.raw import RawFile
from shared.data.events.repairs import RecordingUnreadable, Repair, Repairs
from shared.vision.events import Events

SUFFIXES = (".dat", ".raw", ".h5", ".hdf5")
# Sensors whose recordings may lack a size, smallest first: GENX320, ATIS, Gen3, 1 megapixel.
SENSORS = ((240, 304), (320, 320), (480, 640), (720, 1280))
_HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class Recording:
    """A file of events: `path`, `format` (dat, evt2, evt3, hdf5), sensor `size` (height, width), `repairs`.

    Made by `open_recording`. The repairs are complete once the chunks have been read to the end.
    """

    def __init__(self, path: Path, size: tuple[int, int] | None = None) -> None:
        self.path = path
        self.repairs = Repairs()
        self._file = _open(path, self.repairs)
        self.format = self._file.format
        self.size = size or self._file.size or self._size_of_events()

    def chunks(self) -> Iterator[Events]:
        """Yield the events in order of time, at most a million at once. A second call starts anew.

        Raises RecordingUnreadable where the file is damaged, or so wrong that repairing would hide it, or at
        the end where no event was usable.
        """
        inferred = self.repairs[Repair.SIZE_FROM_EVENTS]
        repairs = self.repairs = Repairs()
        repairs.count(Repair.SIZE_FROM_EVENTS, inferred)
        file = _open(self.path, repairs)
        cleaner = Cleaner(str(self.path), self.size, repairs)
        usable = 0
        for chunk in file.chunks():
            events = cleaner.clean(chunk)
            usable += len(events)
            if len(events):
                yield events
        cleaner.judge()
        if not usable:
            left_out = ", ".join(f"{count} {kind}" for kind, count in repairs.as_dict().items())
            raise RecordingUnreadable(f"{self.path} holds no usable event (left out: {left_out or 'none'})")

    def _size_of_events(self) -> tuple[int, int]:
        """The smallest known sensor that holds every event; reads the file once."""
        height = width = 0
        for chunk in self._file.chunks():
            height, width = max(height, _bound(chunk, "y")), max(width, _bound(chunk, "x"))
        fitting = (sensor for sensor in SENSORS if height <= sensor[0] and width <= sensor[1])
        size = next(fitting, None)
        if size is None:
            raise RecordingUnreadable(
                f"{self.path} does not say how large its sensor is, and events reach row {height - 1} and "
                f"column {width - 1}, beyond the known sensors; give the size with --sensor"
            )
        self.repairs = Repairs()
        self.repairs.count(Repair.SIZE_FROM_EVENTS)
        return size


def open_recording(path: Path, size: tuple[int, int] | None = None) -> Recording:
    """Open a recording by its content and suffix: `.dat`, `.raw` (EVT 2.0, 3.0) or HDF5.

    size: (height, width) of the sensor, instead of the one the file states. A file that states none has the
    smallest known sensor that holds all its events, which is counted as a repair. Raises RecordingUnreadable
    for a file that holds no events in one of these formats.
    """
    return Recording(path, size)


def _open(path: Path, repairs: Repairs) -> DatFile | RawFile | Hdf5File:
    if not path.is_file():
        raise RecordingUnreadable(f"{path} is not a file")
    with path.open("rb") as file:
        start = file.read(len(_HDF5_SIGNATURE))
    if not start:
        raise RecordingUnreadable(f"{path} is empty")
    suffix = path.suffix.lower()
    if start == _HDF5_SIGNATURE or suffix in (".h5", ".hdf5"):
        return Hdf5File(path, repairs)
    if suffix == ".raw":
        return RawFile(path, repairs)
    if suffix == ".dat":
        return DatFile(path, repairs)
    raise RecordingUnreadable(f"{path} has an unknown suffix; recordings end in {', '.join(SUFFIXES)}")


def _bound(chunk: RawChunk, name: str) -> int:
    column = getattr(chunk, name)
    return int(column.max()) + 1 if len(column) else 0
