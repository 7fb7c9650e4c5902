"""Divide a set into training and validation, the same way every time."""

import hashlib
from collections import defaultdict
from dataclasses import replace

from shared.core.files import sha256_file
from shared.data.dataset import DetectionRecord, DetectionSet


def split_detection_set(
    dataset: DetectionSet, val_fraction: float, *, seed: int = 0
) -> tuple[DetectionSet, DetectionSet]:
    """Return (training set, validation set); about `val_fraction` (0..1) of the pictures go to the second.

    Copies of one picture (equal bytes) stay on one side. Which side depends on the picture's bytes and the
    seed, not on names or order. Each side gets one group of copies at least; raises ValueError where the
    fraction is not between 0 and 1 or there is only one different picture.
    """
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction must be between 0 and 1, got {val_fraction}")
    copies: dict[str, list[DetectionRecord]] = defaultdict(list)
    for record in dataset.records:
        copies[sha256_file(record.image_path)].append(record)
    if len(copies) < 2:
        raise ValueError(
            f"{dataset.source} has {len(copies)} different pictures; at least 2 are needed to split"
        )
    shuffled = sorted(copies, key=lambda digest: hashlib.sha256(f"{seed} {digest}".encode()).digest())
    wanted = max(1, round(val_fraction * len(dataset)))
    chosen: set[str] = set()
    count = 0
    for digest in shuffled[:-1]:
        if count >= wanted:
            break
        chosen.add(digest)
        count += len(copies[digest])
    in_val = {id(record) for digest in chosen for record in copies[digest]}
    train = [record for record in dataset.records if id(record) not in in_val]
    val = [record for record in dataset.records if id(record) in in_val]
    return replace(dataset, records=train), replace(dataset, records=val)
