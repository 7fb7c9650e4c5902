"""What every reader of labelled pictures returns: records, class names and the defects that were found."""

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.core.files import sha256_file
from shared.vision.boxes import Boxes


class Severity(StrEnum):
    """What a defect means for training.

    error: something had to be left out or would make results wrong. warning: used, after a repair or as it
    stands, and worth a look. note: harmless and common, counted all the same.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Defect:
    """One thing wrong with a data set. `code` is from a small fixed set, `where` names the file or row."""

    severity: Severity
    code: str
    where: str
    detail: str


@dataclass(slots=True)
class DetectionRecord:
    """One picture with its boxes.

    image_path: the file; width, height: pixels after EXIF rotation, as the labels state them; boxes: float32
    [N, 4] corners in pixels, inside the picture; labels: int64 [N], indices into the set's class names;
    ignore: bool [N], True for regions that are neither trained on nor counted (COCO's iscrowd).
    """

    image_path: Path
    width: int
    height: int
    boxes: Boxes
    labels: NDArray[np.int64]
    ignore: NDArray[np.bool_]
    image_id: int | str


@dataclass(slots=True)
class DetectionSet:
    """Labelled pictures from one source, and every defect met while reading them.

    classes_named is False where the source only numbers its classes; `class_names` then holds stand-ins.
    """

    records: list[DetectionRecord]
    class_names: list[str]
    source: str
    defects: list[Defect] = field(default_factory=list)
    classes_named: bool = True

    def __len__(self) -> int:
        return len(self.records)

    def content_hash(self) -> str:
        """Return a SHA-256 (hex) over class names, pictures' bytes and labels, whatever the records' order.

        Paths and ids do not count: the same data in another folder has the same hash. Raises OSError for a
        picture that cannot be read.
        """
        digests = sorted(_record_digest(record) for record in self.records)
        total = hashlib.sha256()
        for name in self.class_names:
            total.update(name.encode() + b"\0")
        for digest in digests:
            total.update(digest)
        return total.hexdigest()


def _record_digest(record: DetectionRecord) -> bytes:
    digest = hashlib.sha256(bytes.fromhex(sha256_file(record.image_path)))
    rows = np.column_stack([record.labels, record.ignore, record.boxes]).astype("<f4")
    for row in sorted(row.tobytes() for row in rows):
        digest.update(row)
    return digest.digest()
