"""Boxes of a recording: Prophesee's `.npy` records, old and new field names. Events spec, section 8."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.data.events.repairs import RecordingUnreadable, Repair, Repairs

# t in microseconds; x, y: top left corner in pixels of the sensor. 40 bytes.
BOX = np.dtype(
    {
        "names": ["t", "x", "y", "w", "h", "class_id", "track_id", "class_confidence"],
        "formats": ["<i8", "<f4", "<f4", "<f4", "<f4", "<u4", "<u4", "<f4"],
        "offsets": [0, 8, 12, 16, 20, 24, 28, 32],
        "itemsize": 40,
    }
)
_OLD_NAMES = {"t": "ts", "class_confidence": "confidence"}
_LATE_US = 50_000  # a window may still hold a box's events
_REQUIRED = ("t", "x", "y", "w", "h", "class_id")


def read_boxes(path: Path, repairs: Repairs) -> NDArray[np.void]:
    """Return the boxes, dtype `BOX`, in order of time.

    Boxes that are not numbers, have no area or come before time zero are left out, boxes out of order are
    sorted in; both are counted. A missing track id is 0, a missing confidence 1. Raises RecordingUnreadable
    for a file that is not a whole `.npy`, is no list of records, or lacks a field.
    """
    try:
        records = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RecordingUnreadable(f"{path} is not a whole .npy file of boxes ({error})") from error
    if not isinstance(records, np.ndarray) or records.dtype.names is None or records.ndim != 1:
        raise RecordingUnreadable(
            f"{path} holds no list of records; fields {', '.join(_REQUIRED)} are needed"
        )
    names = {name: _OLD_NAMES.get(name, name) for name in BOX.names or ()}
    found = {
        name: name if name in records.dtype.names else old
        for name, old in names.items()
        if name in records.dtype.names or old in records.dtype.names
    }
    missing = [name for name in _REQUIRED if name not in found]
    if missing:
        raise RecordingUnreadable(
            f"{path} lacks {', '.join(missing)}; its fields are {', '.join(records.dtype.names)}"
        )
    boxes = np.zeros(len(records), BOX)
    boxes["class_confidence"] = 1
    _check_kinds(path, records, found)
    for name, source in found.items():
        boxes[name] = records[source]
    return _repaired(boxes, repairs)


def without_padding(boxes: NDArray[np.void]) -> NDArray[np.void]:
    """A copy with zeros in the bytes that belong to no field: the same boxes give the same bytes."""
    clean = np.zeros(len(boxes), BOX)
    for name in BOX.names or ():
        clean[name] = boxes[name]
    return clean


def labels_after(boxes: NDArray[np.void], last_event_us: int) -> int:
    """How many boxes come more than 50 ms after the last event: none of their windows holds one."""
    return int(np.count_nonzero(boxes["t"] > last_event_us + _LATE_US))


def _check_kinds(path: Path, records: NDArray[np.void], found: dict[str, str]) -> None:
    ids = records[found["class_id"]]
    if ids.dtype.kind not in "iu" or (ids.dtype.kind == "i" and len(ids) and ids.min() < 0):
        raise RecordingUnreadable(f"{path}: class ids must be whole numbers from 0")
    if records[found["t"]].dtype.kind not in "iu":
        raise RecordingUnreadable(f"{path}: times must be whole microseconds")


def _repaired(boxes: NDArray[np.void], repairs: Repairs) -> NDArray[np.void]:
    finite = np.all([np.isfinite(boxes[name]) for name in ("x", "y", "w", "h")], axis=0)
    area = (boxes["w"] > 0) & (boxes["h"] > 0)
    timed = boxes["t"] >= 0
    repairs.count(Repair.BOX_NOT_FINITE, int(np.count_nonzero(~finite)))
    repairs.count(Repair.BOX_WITHOUT_AREA, int(np.count_nonzero(finite & ~area)))
    repairs.count(Repair.BOX_NEGATIVE_TIME, int(np.count_nonzero(finite & area & ~timed)))
    boxes = boxes[finite & area & timed]
    back = int(np.count_nonzero(np.diff(boxes["t"]) < 0))
    repairs.count(Repair.LABELS_OUT_OF_ORDER, back)
    return boxes[np.argsort(boxes["t"], kind="stable")] if back else boxes
