"""Pictures that occur twice: equal files by SHA-256, look-alikes by a difference hash and their details.

The hash finds candidates fast. It sees only coarse shades, which flat pictures from one camera share; so a
candidate counts only where the details, a small picture without its coarse shades, correlate as well.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

HASH_SIDE = 16
NEAR_BITS = 8  # of 256: survives another JPEG quality or size, but not another moment of the same camera
DETAIL_SIDE = 64
SAME_DETAILS = 0.75  # correlation; copies reach 0.9 and more, different pictures of one scene stay below 0.5
_COARSE_SIGMA = 3.0  # cells; shades wider than this are no detail
_BLANK = 0.15  # deviation in grey levels below which a picture has no details to compare
_FEW_PAIRS = 4096  # up to here pairs are multiplied one by one
_CHUNK = 512  # rows compared at a time with all earlier pictures; bounds the memory


@dataclass(frozen=True, slots=True)
class Look:
    """What a picture is recognised by: SHA-256 of its file, `difference_hash`, `details` (float16)."""

    digest: str
    shades: NDArray[np.uint64]
    details: NDArray[np.float16]


def look_at(data: bytes, image: NDArray[np.uint8]) -> Look:
    """Return the look of a picture from its file's bytes and its pixels, uint8 [H, W, 3] RGB."""
    return Look(hashlib.sha256(data).hexdigest(), difference_hash(image), details(image))


def difference_hash(image: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return 256 bits (uint64 [4]): is each of 16 x 16 cells darker than its right neighbour?

    image: uint8 [H, W, 3] RGB. Source: N. Krawetz, "Kind of Like That", 2013, with 16 cells a side for 8.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    cells = cv2.resize(grey, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA)
    return np.packbits(cells[:, :-1] < cells[:, 1:]).view(np.uint64)


def details(image: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Return `image` (uint8 [H, W, 3] RGB) as 64 x 64 grey levels minus their blurred copy, float16."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    cells = cv2.resize(grey, (DETAIL_SIDE, DETAIL_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(cells - cv2.GaussianBlur(cells, (0, 0), _COARSE_SIGMA), np.float16)


def look_alikes(looks: list[Look]) -> Iterator[tuple[int, int]]:
    """Yield pairs (i, j), i < j, of pictures that look alike and are not equal files.

    Pictures that are connected through such pairs, or through equal files, look alike too; of a large crowd
    only as many pairs are yielded as connect it, the others of it being implied. Two pictures without any
    details are alike where their shades are.
    """
    if not looks:
        return
    sets = DisjointSets(len(looks))
    sets.join_equal(look.digest for look in looks)
    fine = np.stack([look.details.reshape(-1) for look in looks])
    spread = fine.std(axis=1, dtype=np.float32)
    blank = spread < _BLANK
    fine = (fine - fine.mean(axis=1, keepdims=True, dtype=np.float32)).astype(np.float16)
    for start, near in _near_chunks(np.stack([look.shades for look in looks])):
        rows, columns = np.nonzero(near)
        if len(rows) == 0:
            continue
        rows = rows + start
        correlation = _products(fine, rows, columns) / (fine.shape[1] * spread[rows] * spread[columns] + 1e-9)
        same = np.where(
            blank[rows] | blank[columns], blank[rows] & blank[columns], correlation >= SAME_DETAILS
        )
        for i, j in zip(columns[same].tolist(), rows[same].tolist(), strict=True):
            if sets.find(i) != sets.find(j):
                sets.join(i, j)
                yield i, j


def _products(
    vectors: NDArray[np.float16], rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the inner products of the pairs; all at once where there are many in few rows."""
    if len(rows) < _FEW_PAIRS:
        return np.einsum("ij,ij->i", vectors[rows].astype(np.float32), vectors[columns].astype(np.float32))
    first, last = int(rows.min()), int(rows.max())
    block = vectors[first : last + 1].astype(np.float32)
    products = np.concatenate(
        [block @ part.astype(np.float32).T for part in np.array_split(vectors[: last + 1], 1 + last // 1024)],
        axis=1,
    )
    return np.asarray(products[rows - first, columns], np.float32)


class DisjointSets:
    """Which of the numbers 0..n - 1 belong together, directly or through others."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, item: int) -> int:
        """Return the number that stands for the set of `item`: its smallest."""
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item

    def join(self, first: int, second: int) -> None:
        """Make one set of the sets of two numbers."""
        a, b = sorted((self.find(first), self.find(second)))
        self._parent[b] = a

    def join_equal(self, names: Iterable[str | None]) -> None:
        """Join the numbers that have the same name; None is no name."""
        first: dict[str, int] = {}
        for index, name in enumerate(names):
            if name is not None:
                self.join(first.setdefault(name, index), index)


def _near_chunks(hashes: NDArray[np.uint64]) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Yield (start, near): near[r, i] says whether row start + r is within NEAR_BITS of an earlier row i."""
    for start in range(0, len(hashes), _CHUNK):
        later = hashes[start : start + _CHUNK]
        earlier = hashes[: start + len(later)]
        distance = np.zeros((len(later), len(earlier)), np.uint16)
        for word in range(hashes.shape[1]):
            distance += np.bitwise_count(later[:, None, word] ^ earlier[None, :, word])
        near = distance <= NEAR_BITS
        near &= np.arange(len(earlier))[None, :] < (start + np.arange(len(later)))[:, None]
        yield start, near
