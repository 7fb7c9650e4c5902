"""Pictures that hold several classes at once or none, as every classification reader returns them."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.core.files import sha256_file
from shared.data.dataset import Defect, Severity
from shared.data.formats.errors import DatasetUnreadable
from shared.data.regions import Region


@dataclass(slots=True)
class ClassificationRecord:
    """One picture and the classes it holds.

    image_path: the file; width, height: pixels after EXIF rotation; labels: bool [C], all False where the
    picture holds none; group: what may not be divided between splits, for instance a specimen; regions: where
    the classes are, as far as the source says so; regions_complete: False where the source names a class
    without saying where, or in a way that has no area.
    """

    image_path: Path
    width: int
    height: int
    labels: NDArray[np.bool_]
    image_id: str
    group: str | None = None
    regions: list[Region] = field(default_factory=list)
    regions_complete: bool = True


@dataclass(slots=True)
class ClassificationSet:
    """Pictures with class labels from one source, and every defect met while reading them.

    unlabelled: pictures that lie among the others and about which the source says nothing, not even that they
    hold no class; they are neither trained on nor counted.
    """

    records: list[ClassificationRecord]
    class_names: list[str]
    source: str
    defects: list[Defect] = field(default_factory=list)
    unlabelled: list[ClassificationRecord] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.records)

    def labels(self) -> NDArray[np.bool_]:
        """Return all labels, bool [N, C]."""
        empty = np.zeros((0, len(self.class_names)), bool)
        return np.stack([record.labels for record in self.records]) if self.records else empty

    def class_counts(self) -> NDArray[np.int64]:
        """Return the number of pictures that hold each class, int64 [C]."""
        return self.labels().sum(axis=0, dtype=np.int64)

    def fingerprints(self) -> dict[str, str]:
        """Return for each image id a SHA-256 (hex) over the picture's bytes and its classes' names.

        Raises OSError for a picture that cannot be read.
        """
        return {record.image_id: _fingerprint(record, self.class_names) for record in self.records}

    def content_hash(self) -> str:
        """Return a SHA-256 (hex) over class names, pictures' bytes and labels, whatever the records' order.

        Paths and ids do not count: the same data in another folder has the same hash. Raises OSError for a
        picture that cannot be read.
        """
        return content_hash(self.fingerprints(), self.class_names)


def content_hash(fingerprints: Mapping[str, str], class_names: list[str]) -> str:
    """Return the hash of a set from its fingerprints (see ClassificationSet); the ids do not count."""
    total = hashlib.sha256()
    for name in class_names:
        total.update(name.encode() + b"\0")
    for digest in sorted(fingerprints.values()):
        total.update(digest.encode())
    return total.hexdigest()


def _fingerprint(record: ClassificationRecord, class_names: list[str]) -> str:
    digest = hashlib.sha256(bytes.fromhex(sha256_file(record.image_path)))
    for name in sorted(name for name, held in zip(class_names, record.labels, strict=True) if held):
        digest.update(name.encode() + b"\0")
    return digest.hexdigest()


def select_classes(dataset: ClassificationSet, class_names: list[str]) -> ClassificationSet:
    """Return the set with only `class_names`, in that order; pictures of other classes then hold none.

    Raises DatasetUnreadable for a class that the set does not have.
    """
    unknown = [name for name in class_names if name not in dataset.class_names]
    if unknown:
        raise DatasetUnreadable(
            f"{dataset.source} has no class {', '.join(map(repr, unknown))}; "
            f"it has {', '.join(dataset.class_names)}"
        )
    columns = [dataset.class_names.index(name) for name in class_names]
    position = {old: new for new, old in enumerate(columns)}

    def selected(record: ClassificationRecord) -> ClassificationRecord:
        regions = [
            replace(region, label=position[region.label])
            for region in record.regions
            if region.label in position
        ]
        return replace(record, labels=record.labels[columns], regions=regions)

    return replace(
        dataset,
        records=list(map(selected, dataset.records)),
        class_names=list(class_names),
        unlabelled=list(map(selected, dataset.unlabelled)),
    )


def other_sizes(records: list[ClassificationRecord]) -> Iterator[Defect]:
    """Yield a warning for every picture whose size differs from the most frequent one."""
    sizes = Counter((record.width, record.height) for record in records)
    if len(sizes) < 2:
        return
    usual, _ = sizes.most_common(1)[0]
    for record in records:
        if (record.width, record.height) != usual:
            detail = f"{record.width} x {record.height}; most pictures have {usual[0]} x {usual[1]}"
            yield Defect(Severity.WARNING, "other_size", record.image_id, detail)
