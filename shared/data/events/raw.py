"""Prophesee's `.raw`: what the sensor sent, as EVT 2.0 or EVT 3.0 words after a text header."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shared.data.events.chunk import RawChunk
from shared.data.events.evt2 import Evt2Decoder
from shared.data.events.evt3 import Evt3Decoder
from shared.data.events.file_header import FileHeader, read_header
from shared.data.events.repairs import RecordingUnreadable, Repair, Repairs

_CHUNK_WORDS = 1 << 15  # what is made of them stays in the processor's cache
_DECODERS: dict[str, type[Evt2Decoder] | type[Evt3Decoder]] = {"2.0": Evt2Decoder, "3.0": Evt3Decoder}


class RawFile:
    """A `.raw` file. `size` is (height, width) where the header states it.

    Raises RecordingUnreadable for an empty file, a header that names no encoding, or an encoding other than
    EVT 2.0 and 3.0.
    """

    def __init__(self, path: Path, repairs: Repairs) -> None:
        self.path, self._repairs = path, repairs
        header = read_header(path)
        encoding = _encoding(header)
        if encoding not in _DECODERS:
            problem = f"is encoded as EVT {encoding}" if encoding else "has no header that names its encoding"
            raise RecordingUnreadable(
                f"{path} {problem}; EVT 2.0 and EVT 3.0 with a header can be read, others can be converted "
                "to HDF5 with Metavision's metavision_file_to_hdf5"
            )
        self.format = f"evt{encoding[0]}"
        self.size = header.size()
        self._decoder, self._start = _DECODERS[encoding], header.data_start
        big = header.fields.get("endianness", "little").lower() == "big"
        self._stored = self._decoder.word.newbyteorder(">") if big else self._decoder.word
        self._words, self._rest = divmod(path.stat().st_size - self._start, self._stored.itemsize)
        if not self._words:
            raise RecordingUnreadable(f"{path} ends after its header and holds no event")

    def chunks(self) -> Iterator[RawChunk]:
        """Yield the events; the wraps of the sensor's clock are undone."""
        self._repairs.count(Repair.CUT_OFF, self._rest)
        decoder = self._decoder(self._repairs)
        with self.path.open("rb") as file:
            file.seek(self._start)
            left = self._words
            while left:
                words = np.fromfile(file, self._stored, min(left, _CHUNK_WORDS))
                if not len(words):
                    raise RecordingUnreadable(f"{self.path} became shorter while it was read")
                left -= len(words)
                chunk = decoder.decode(np.asarray(words, decoder.word))
                if len(chunk):
                    yield chunk


def _encoding(header: FileHeader) -> str:
    """ "2.0", "2.1", "3.0" … as the header says, or "" where it does not."""
    if version := header.fields.get("evt"):
        return version if "." in version else f"{version}.0"
    if match := re.match(r"EVT(\d)(\d?)", header.fields.get("format", "")):
        return f"{match[1]}.{match[2] or 0}"
    return ""
