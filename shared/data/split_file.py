"""The split file: which picture belongs to which part, written so that a run can be repeated.

It carries the hash of the data it was made for and refuses any other, saying what differs.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from shared.core.files import write_atomic
from shared.data.classification import ClassificationSet, content_hash
from shared.data.formats.errors import DatasetUnreadable

SPLIT_FILE_NAME = "splits.json"
_EXAMPLES = 3
_FINGERPRINT_DIGITS = 16


class SplitFile(BaseModel):
    """Parts by name, each with its image ids, and the data they were made for.

    data_hash: ClassificationSet.content_hash of the whole set; fingerprints: the first 16 hex digits of each
    picture's own, by image id; seed and ratios (percent or any shares) are None where the data came divided.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    data_hash: str
    class_names: list[str]
    seed: int | None = None
    ratios: dict[str, float] | None = None
    parts: dict[str, list[str]]
    fingerprints: dict[str, str]

    @model_validator(mode="after")
    def _each_picture_once(self) -> "SplitFile":
        counts = Counter(image_id for ids in self.parts.values() for image_id in ids)
        repeated = [image_id for image_id, count in counts.items() if count > 1]
        if repeated:
            named = repeated[0]
            where = [name for name, ids in self.parts.items() if named in ids]
            raise ValueError(
                f"{len(repeated)} pictures stand in the parts more than once, {named} in "
                f"{' and '.join(where)}"
            )
        if set(counts) != set(self.fingerprints):
            raise ValueError("parts and fingerprints do not name the same pictures")
        return self

    def apply(self, dataset: ClassificationSet, *, others: bool = False) -> dict[str, ClassificationSet]:
        """Return the parts of `dataset` by name.

        `others` allows it pictures that the file does not name, which are in no part: a run's own file names
        only what the run used. Raises DatasetUnreadable where the data is not what the file was made for,
        OSError for a picture that cannot be read.
        """
        if others:
            named = [record for record in dataset.records if record.image_id in self.fingerprints]
            dataset = replace(dataset, records=named)
        self._compare(dataset)
        by_id = {record.image_id: record for record in dataset.records}
        return {
            name: replace(
                dataset,
                records=[by_id[image_id] for image_id in ids],
                source=f"{dataset.source}, {name}",
                defects=[],
                unlabelled=[],
            )
            for name, ids in self.parts.items()
        }

    def _compare(self, dataset: ClassificationSet) -> None:
        differences = []
        if dataset.class_names != self.class_names:
            differences.append(f"its classes are {dataset.class_names}, the file's {self.class_names}")
        fingerprints = dataset.fingerprints()
        expected, found = set(self.fingerprints), set(fingerprints)
        if expected - found:
            differences.append(_some(expected - found, "of the file's pictures are not in it"))
        if found - expected:
            differences.append(_some(found - expected, "of its pictures are not in the file"))
        changed = {
            image_id
            for image_id in expected & found
            if not fingerprints[image_id].startswith(self.fingerprints[image_id])
        }
        if changed:
            differences.append(_some(changed, "have other bytes or other labels"))
        if not differences and content_hash(fingerprints, dataset.class_names) != self.data_hash:
            differences.append("its hash differs though every picture is the same: the file was edited")
        if differences:
            raise DatasetUnreadable(
                f"the split file was made for other data than {dataset.source}: {'; '.join(differences)}; "
                "make a new one with `sightline data split`"
            )


def _some(ids: set[str], what: str) -> str:
    shown = ", ".join(sorted(ids)[:_EXAMPLES])
    return f"{len(ids)} {what} ({shown}{', ...' if len(ids) > _EXAMPLES else ''})"


def describe_parts(
    parts: Mapping[str, ClassificationSet],
    *,
    seed: int | None = None,
    ratios: Mapping[str, float] | None = None,
) -> SplitFile:
    """Return the split file of parts that exist.

    Where an image id occurs in two parts, all ids get the part's name before them.
    Raises OSError for a picture that cannot be read.
    """
    counts = Counter(record.image_id for part in parts.values() for record in part.records)
    clash = any(count > 1 for count in counts.values())
    ids: dict[str, list[str]] = {}
    fingerprints: dict[str, str] = {}
    for name, part in parts.items():
        own = part.fingerprints()
        named = {f"{name}/{image_id}" if clash else image_id: value for image_id, value in own.items()}
        ids[name] = sorted(named)
        fingerprints |= named
    class_names = next(iter(parts.values())).class_names
    return SplitFile(
        data_hash=content_hash(fingerprints, class_names),
        class_names=list(class_names),
        seed=seed,
        ratios=None if ratios is None else dict(ratios),
        parts=ids,
        fingerprints={
            image_id: value[:_FINGERPRINT_DIGITS] for image_id, value in sorted(fingerprints.items())
        },
    )


def read_split_file(path: Path) -> SplitFile:
    """Read a split file. Raises DatasetUnreadable where it is none, FileNotFoundError where there is none."""
    try:
        return SplitFile.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DatasetUnreadable(
            f"{path} is no split file: {place + ': ' if place else ''}{first['msg']}"
        ) from error


def write_split_file(path: Path, split_file: SplitFile) -> None:
    """Write a split file in one step; OSError leaves what was there."""
    write_atomic(path, split_file.model_dump_json(indent=1) + "\n")
