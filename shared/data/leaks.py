"""Pictures that a test would share with the training: found, and refused by name."""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from shared.data.classification import ClassificationRecord, ClassificationSet
from shared.data.duplicates import DisjointSets, Look, look_alikes, look_at
from shared.data.formats.errors import DatasetUnreadable
from shared.data.loading import load_picture

_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Leak:
    """Two pictures of different parts that must not be apart; `reason` says what they share."""

    first_part: str
    first_id: str
    second_part: str
    second_id: str
    reason: str

    def __str__(self) -> str:
        """Name both, the part first."""
        return f"{self.first_part}/{self.first_id} and {self.second_part}/{self.second_id}: {self.reason}"


def read_looks(records: list[ClassificationRecord], on_image: Callable[[], None] | None = None) -> list[Look]:
    """Return the look of each picture, on all processors. Raises DatasetUnreadable for a broken picture."""
    looks: list[Look] = []
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:  # decoding releases the lock
        for look in pool.map(lambda record: look_at(*load_picture(record)), records):
            looks.append(look)
            if on_image:
                on_image()
    return looks


def tie(records: list[ClassificationRecord], looks: list[Look]) -> list[int]:
    """Return for each picture a number; pictures with the same number must stay together.

    They are equal files, look alike, or have the same group, directly or through others.
    """
    sets = DisjointSets(len(records))
    sets.join_equal(look.digest for look in looks)
    sets.join_equal(record.group for record in records)
    for first, second in look_alikes(looks):
        sets.join(first, second)
    return [sets.find(index) for index in range(len(records))]


def find_leaks(parts: Mapping[str, ClassificationSet], looks: list[Look]) -> Iterator[Leak]:
    """Yield what different parts share: the same picture, equal files, look-alikes, a group.

    looks: of all pictures, in the order of `parts`. A part that is given twice under two names (a validation
    on the training pictures) is a leak like any other.
    """
    places = [(name, record) for name, part in parts.items() for record in part.records]
    first_by: dict[tuple[str, str], int] = {}
    told: set[tuple[int, int]] = set()

    def leak(first: int, second: int, reason: str) -> Iterator[Leak]:
        (first_part, a), (second_part, b) = places[first], places[second]
        if first_part != second_part and (first, second) not in told:
            told.add((first, second))
            yield Leak(first_part, a.image_id, second_part, b.image_id, reason)

    for index, ((_, record), look) in enumerate(zip(places, looks, strict=True)):
        names = [
            ("file", str(record.image_path), "the same picture"),
            ("bytes", look.digest, "equal files"),
            ("group", record.group, f"both of group {record.group}"),
        ]
        for kind, name, reason in names:
            if name is not None:
                yield from leak(first_by.setdefault((kind, name), index), index, reason)
    for first, second in look_alikes(looks):
        yield from leak(first, second, "they look alike")


def refuse_leaks(parts: Mapping[str, ClassificationSet], looks: list[Look]) -> None:
    """Raise DatasetUnreadable, naming some pairs, where `find_leaks` finds any."""
    leaks = list(find_leaks(parts, looks))
    if leaks:
        shown = "; ".join(str(leak) for leak in leaks[:_EXAMPLES])
        more = f"; and {len(leaks) - _EXAMPLES} more" if len(leaks) > _EXAMPLES else ""
        raise DatasetUnreadable(
            f"{len(leaks)} pairs of pictures lie in different splits, so that what is tested was trained on: "
            f"{shown}{more}; divide the set anew with `sightline data split`, which keeps them together"
        )
