"""Repeat factor sampling: how often each picture comes."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from shared.data.classification import ClassificationRecord, ClassificationSet
from shared.data.rare_classes import repeat_rare


def dataset(counts: list[int], without: int) -> ClassificationSet:
    """`counts[c]` pictures of class c alone, and some of none."""
    records = []
    for label, count in [*enumerate(counts), (None, without)]:
        for number in range(count):
            labels = np.array([index == label for index in range(len(counts))])
            name = f"{label}-{number}.png"
            records.append(ClassificationRecord(Path(name), 8, 8, labels, name))
    return ClassificationSet(records, [str(index) for index in range(len(counts))], "made here")


def test_a_class_comes_as_often_as_the_root_of_its_rarity_says() -> None:
    # Shares 0.01, 0.04 and 0.5 against 0.16: √16 = 4, √4 = 2, and at most once for what is frequent.
    found = Counter(record.image_id for record in repeat_rare(dataset([4, 16, 200], 180), 0.16).records)
    assert {found[f"0-{n}.png"] for n in range(4)} == {4}
    assert {found[f"1-{n}.png"] for n in range(16)} == {2}
    assert {found[f"2-{n}.png"] for n in range(200)} == {1}
    assert {found[f"None-{n}.png"] for n in range(180)} == {1}


def test_fractions_become_whole_repeats_that_the_seed_draws() -> None:
    # A share of 0.1 against 0.225: r = 1.5.
    plain = dataset([1000], 9000)
    first, again, other = (len(repeat_rare(plain, 0.225, seed).records) for seed in (1, 1, 2))
    assert first == again != other
    assert first - 10_000 == pytest.approx(500, abs=60)  # four deviations of 1000 coin throws


def test_a_picture_of_several_classes_follows_its_rarest_and_absent_classes_do_nothing() -> None:
    plain = dataset([1, 99, 0], 0)
    plain.records[0].labels[1] = True
    found = Counter(record.image_id for record in repeat_rare(plain, 0.04).records)
    assert found["0-0.png"] == 2
    assert set(found.values()) == {1, 2}


def test_nothing_changes_at_zero() -> None:
    plain = dataset([3, 5], 10)
    assert repeat_rare(plain, 0.0).records == plain.records
