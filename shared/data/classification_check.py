"""The dataset check for pictures with class labels: read everything, count it, name every defect."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from shared.data.classification import ClassificationSet
from shared.data.dataset import Defect, Severity
from shared.data.formats.classification import (
    CLASSIFICATION_READERS,
    detect_classification_format,
    find_split_file,
    read_classification_set,
)
from shared.data.formats.errors import DatasetUnreadable
from shared.data.picture_check import Picture, Progress, alike, equal_files, read_pictures
from shared.data.report import LabelCount, LabelledDataReport, LabelledSplitReport, summary
from shared.data.split_file import read_split_file

_GREY_LEVELS = 2.0  # channels that differ by less on average are grey but for JPEG's rounding


def classification_format(path: Path, name: str) -> str | None:
    """Return the format of the class labels at `path`, None where it holds boxes; `name`: as asked for."""
    if name == "auto":
        return detect_classification_format(path)
    return name if name in CLASSIFICATION_READERS else None


def read_all(
    path: Path, name: str, images_dir: Path | None, defects: list[tuple[str, Defect]]
) -> dict[str, ClassificationSet]:
    """Return every split by name ("" for undivided data); what cannot be read becomes a defect."""
    try:
        own = CLASSIFICATION_READERS[name].splits(path)
        if not own:
            whole = read_classification_set(path, format=name, images_dir=images_dir)
            return _divided(whole, find_split_file(path), defects)
    except (DatasetUnreadable, OSError) as error:
        defects.append(("", Defect(Severity.ERROR, "unreadable_dataset", str(path), str(error))))
        return {}
    sets: dict[str, ClassificationSet] = {}
    for split in own:
        try:
            sets[split] = read_classification_set(path, format=name, split=split, images_dir=images_dir)
        except (DatasetUnreadable, OSError) as error:
            defects.append((split, Defect(Severity.ERROR, "unreadable_dataset", split, str(error))))
    return sets


def _divided(
    whole: ClassificationSet, split_file: Path | None, defects: list[tuple[str, Defect]]
) -> dict[str, ClassificationSet]:
    """Return the parts that a splits.json in the folder names; the whole where there is none that fits."""
    if split_file is None:
        return {"": whole}
    try:
        parts = read_split_file(split_file).apply(whole)
    except DatasetUnreadable as error:
        defects.append(("", Defect(Severity.ERROR, "stale_split_file", split_file.name, str(error))))
        return {"": whole}
    # What reading the whole brought to light belongs to no part.
    defects += [("", defect) for defect in whole.defects]
    return parts


def check_classification(
    path: Path, name: str, images_dir: Path | None = None, progress: Progress | None = None
) -> LabelledDataReport:
    """Check every split at `path`, read as format `name`: labels, files, sizes, colours, duplicates, leaks.

    What splits share is an error: a picture, equal files, look-alikes, a group.
    """
    defects: list[tuple[str, Defect]] = []
    sets = read_all(path, name, images_dir, defects)
    for split, dataset in sets.items():
        defects += [(split, defect) for defect in [*dataset.defects, *_label_notes(dataset)]]
    pictures = read_pictures(sets, progress)
    for picture in pictures:
        defects += [(picture.split, defect) for defect in picture.defects]
    defects += _colour_among_grey(pictures)
    defects += equal_files(pictures)
    defects += alike(pictures, across=Severity.ERROR)
    defects += _shared_groups(sets)
    defects += _contradictions(sets, pictures)
    return LabelledDataReport(**summary(path, name, defects), splits=describe_splits(sets))


def describe_splits(sets: Mapping[str, ClassificationSet]) -> list[LabelledSplitReport]:
    """Count what each split holds, without looking at a picture."""
    return [_describe(split, dataset) for split, dataset in sets.items()]


def _describe(split: str, dataset: ClassificationSet) -> LabelledSplitReport:
    sizes = Counter(f"{record.width} x {record.height}" for record in dataset.records)
    combinations = Counter(
        "+".join(name for name, held in zip(dataset.class_names, record.labels, strict=True) if held)
        for record in dataset.records
    )
    counts = dataset.class_counts().tolist()
    return LabelledSplitReport(
        name=split,
        images=len(dataset),
        images_without_labels=combinations[""],
        image_sizes=dict(sizes.most_common()),
        classes=[
            LabelCount(name=name, images=count, share=count / max(1, len(dataset)))
            for name, count in zip(dataset.class_names, counts, strict=True)
        ],
        combinations=dict(combinations.most_common()),
        groups=len({record.group for record in dataset.records if record.group is not None}),
        unlabelled=len(dataset.unlabelled),
    )


def _label_notes(dataset: ClassificationSet) -> Iterator[Defect]:
    if not dataset.records:
        yield Defect(Severity.ERROR, "no_images", dataset.source, "no usable picture at all")
        return
    counts = dataset.class_counts()
    if not counts.any():
        detail = f"none of {len(dataset)} pictures holds a class; nothing can be learned from them"
        yield Defect(Severity.ERROR, "all_negative", dataset.source, detail)
        return
    for name, count in zip(dataset.class_names, counts, strict=True):
        if count == 0:
            yield Defect(Severity.WARNING, "class_absent", name, f"no picture holds class {name!r}")


def _colour_among_grey(pictures: list[Picture]) -> Iterator[tuple[str, Defect]]:
    coloured = [picture for picture in pictures if picture.look and picture.colour > _GREY_LEVELS]
    if 2 * len(coloured) >= sum(picture.look is not None for picture in pictures):
        return
    for picture in coloured:
        detail = "in colour; most pictures of the set are grey"
        yield picture.split, Defect(Severity.WARNING, "colour_image", picture.name, detail)


def _shared_groups(sets: Mapping[str, ClassificationSet]) -> Iterator[tuple[str, Defect]]:
    first: dict[str, tuple[str, str]] = {}
    told: set[tuple[str, str]] = set()
    for split, dataset in sets.items():
        for record in dataset.records:
            if record.group is None:
                continue
            other_split, other = first.setdefault(record.group, (split, record.image_id))
            if other_split != split and (split, record.group) not in told:
                told.add((split, record.group))
                detail = f"of group {record.group}, like {other_split}/{other}: what is tested was trained on"
                yield split, Defect(Severity.ERROR, "group_across_splits", record.image_id, detail)


def _contradictions(
    sets: Mapping[str, ClassificationSet], pictures: list[Picture]
) -> Iterator[tuple[str, Defect]]:
    """Equal files whose labels differ: at least one of them is wrong."""
    records = [record for dataset in sets.values() for record in dataset.records]
    by_digest: dict[str, list[int]] = defaultdict(list)
    for index, picture in enumerate(pictures):
        if picture.look is not None:
            by_digest[picture.look.digest].append(index)
    for indices in by_digest.values():
        for index in indices[1:]:
            if (records[index].labels != records[indices[0]].labels).any():
                detail = f"the same file as {records[indices[0]].image_id}, with other labels"
                picture = pictures[index]
                yield picture.split, Defect(Severity.ERROR, "contradictory_labels", picture.name, detail)
