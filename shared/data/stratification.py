"""Iterative stratification of pictures with several labels each. Components spec §14.

K. Sechidis, G. Tsoumakas, I. Vlahavas, "On the Stratification of Multi-Label Data", 2011, extended to groups
that stay together: a group counts with all its pictures and all their labels.
"""

import numpy as np
from numpy.typing import NDArray


def stratify(
    counts: NDArray[np.int64], sizes: NDArray[np.int64], ratios: list[float], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the part of each group, int64 [G], values 0..len(ratios) - 1.

    counts: int64 [G, L], pictures of each group that hold each label; sizes: int64 [G], pictures of each;
    ratios: wanted shares, positive, any sum. The rarest label is dealt out first, each group to the part that
    lacks that label most; ties go to the part that lacks pictures most, then to chance. Groups are dealt by
    size, the largest first, so that small ones can even things out; equal ones in random order.
    Raises ValueError for ratios that are not positive.
    """
    if not ratios or min(ratios) <= 0:
        raise ValueError(f"ratios must be positive, got {ratios}")
    shares = np.array(ratios) / sum(ratios)
    lacking = shares * sizes.sum()
    lacking_labels = shares[:, None] * counts.sum(axis=0)[None, :]
    part = np.full(len(sizes), -1, dtype=np.int64)
    # In random order: the first of a label all go to the largest part, which must not meet only one kind.
    shuffled = rng.permutation(len(sizes))
    by_size = shuffled[np.argsort(-sizes[shuffled], kind="stable")]

    def deal(group: int, wish: NDArray[np.float64]) -> None:
        best = _largest(wish, np.arange(len(shares)))
        best = _largest(lacking, best)
        chosen = int(best[0] if len(best) == 1 else rng.choice(best))
        part[group] = chosen
        lacking[chosen] -= sizes[group]
        lacking_labels[chosen] -= counts[group]

    while True:
        left = (counts * (part < 0)[:, None]).sum(axis=0)
        if not left.any():
            break
        rarest = _smallest_above_zero(left, rng)
        for group in by_size:
            if part[group] < 0 and counts[group, rarest]:
                deal(int(group), lacking_labels[:, rarest])
    for group in by_size:
        if part[group] < 0:
            deal(int(group), lacking)
    return part


def _largest(values: NDArray[np.float64], among: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of `among` whose value is the largest; sums of floats differ in their last digits."""
    return among[values[among] >= values[among].max() - 1e-9]


def _smallest_above_zero(left: NDArray[np.int64], rng: np.random.Generator) -> int:
    candidates = np.flatnonzero(left == left[left > 0].min())
    return int(rng.choice(candidates))
