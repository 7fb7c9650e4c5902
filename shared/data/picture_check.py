"""The part of the dataset check that looks at the picture files, whatever their labels are."""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.data.classification import ClassificationRecord, ClassificationSet
from shared.data.dataset import Defect, DetectionRecord, DetectionSet, Severity
from shared.data.duplicates import Look, look_alikes, look_at
from shared.vision.decode import decode_image
from shared.vision.headers import ImageTooLarge, TruncatedImage, read_header

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

Progress = Callable[[int, int], None]  # pictures done, pictures in all
LabelledRecord = DetectionRecord | ClassificationRecord
LabelledSet = DetectionSet | ClassificationSet


@dataclass(slots=True)
class Picture:
    """What reading one picture brought to light; `look` is None where it cannot be used.

    colour: mean difference of the channels in grey levels, 0 for a grey picture.
    """

    split: str
    name: str
    look: Look | None = None
    colour: float = 0.0
    defects: list[Defect] = field(default_factory=list)


def unlisted_files(sets: Mapping[str, LabelledSet]) -> Iterator[tuple[str, Defect]]:
    """Pictures that lie among the listed ones and have no entry in any split."""
    records = [(split, record) for split, dataset in sets.items() for record in dataset.records]
    folders = {record.image_path.parent: split for split, record in records}
    listed = {record.image_path for _, record in records}
    reported = {Path(defect.where).name for dataset in sets.values() for defect in dataset.defects}
    for folder, split in folders.items():
        for file in sorted(folder.iterdir()) if folder.is_dir() else ():
            is_picture = file.suffix.lower() in IMAGE_SUFFIXES
            if is_picture and file not in listed and file.name not in reported:
                detail = "lies among the pictures but no label file lists it"
                yield split, Defect(Severity.WARNING, "image_not_listed", file.name, detail)


def read_pictures(sets: Mapping[str, LabelledSet], progress: Progress | None) -> list[Picture]:
    work = [(split, record) for split, dataset in sets.items() for record in dataset.records]
    pictures: list[Picture] = []
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:  # decoding releases the lock
        for picture in pool.map(lambda item: _read_picture(*item), work):
            pictures.append(picture)
            if progress:
                progress(len(pictures), len(work))
    return pictures


def _read_picture(split: str, record: LabelledRecord) -> Picture:
    picture = Picture(split, record.image_path.name)

    def report(severity: Severity, code: str, detail: str) -> Picture:
        picture.defects.append(Defect(severity, code, picture.name, detail))
        return picture

    try:
        data = record.image_path.read_bytes()
        header = read_header(data)
        image = decode_image(data)
    except FileNotFoundError:
        return report(Severity.ERROR, "missing_image", f"{record.image_path} does not exist")
    except TruncatedImage as error:
        return report(Severity.ERROR, "truncated_image", str(error))
    except ImageTooLarge as error:
        return report(Severity.ERROR, "image_too_large", str(error))
    except (ValueError, OSError) as error:
        return report(Severity.ERROR, "unreadable_image", str(error))
    picture.look = look_at(data, image)
    picture.colour = _colour(image)
    stated, upright, stored = (record.height, record.width), header.size, (header.height, header.width)
    if stated == upright:
        if header.orientation != 1:
            detail = f"EXIF orientation {header.orientation}; labels are taken to fit the upright picture"
            report(Severity.WARNING if upright == stored else Severity.NOTE, "exif_rotation", detail)
    elif stated == stored:
        detail = (
            f"labels are for {_size(stored)} as stored; EXIF orientation {header.orientation} makes it "
            f"{_size(upright)}"
        )
        report(Severity.ERROR, "exif_size_mismatch", detail)
    else:
        detail = f"labels are for {_size(stated)}, the picture has {_size(upright)}"
        report(Severity.ERROR, "size_mismatch", detail)
    return picture


def _colour(image: NDArray[np.uint8]) -> float:
    """Return how far the three channels are apart on average, in grey levels."""
    red, green, blue = cv2.split(image)
    return float(max(cv2.absdiff(red, green).mean(), cv2.absdiff(green, blue).mean()))


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


def equal_files(pictures: list[Picture]) -> Iterator[tuple[str, Defect]]:
    """Equal files; across splits they let the model be tested on what it was trained on."""
    first: dict[str, Picture] = {}
    for picture in pictures:
        if picture.look is None:
            continue
        other = first.setdefault(picture.look.digest, picture)
        if other is picture:
            continue
        if other.split == picture.split:
            defect = Defect(
                Severity.WARNING, "duplicate_image", picture.name, f"the same file as {other.name}"
            )
        else:
            detail = f"the same file as {other.split}/{other.name}: what is tested was trained on"
            defect = Defect(Severity.ERROR, "duplicate_across_splits", picture.name, detail)
        yield picture.split, defect


def alike(pictures: list[Picture], across: Severity) -> Iterator[tuple[str, Defect]]:
    """Pictures that look alike and are not equal files; `across` is the severity between splits."""
    usable = [picture for picture in pictures if picture.look is not None]
    for earlier, later in look_alikes([picture.look for picture in usable if picture.look is not None]):
        first, second = usable[earlier], usable[later]
        apart = first.split != second.split
        detail = f"looks like {first.split + '/' if apart else ''}{first.name}"
        yield (
            second.split,
            Defect(across if apart else Severity.NOTE, "near_duplicate", second.name, detail),
        )
