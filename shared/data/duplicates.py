"""Pictures that occur twice: equal files by SHA-256, look-alikes by a difference hash."""

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

HASH_SIDE = 16
NEAR_BITS = 8  # of 256: survives another JPEG quality or size, but not another moment of the same camera
_CHUNK = 64  # rows compared at a time with all earlier pictures; bounds the memory


def difference_hash(image: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return 256 bits (uint64 [4]): is each of 16 x 16 cells darker than its right neighbour?

    image: uint8 [H, W, 3] RGB. Source: N. Krawetz, "Kind of Like That", 2013, with 16 cells a side for 8.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    cells = cv2.resize(grey, (HASH_SIDE + 1, HASH_SIDE), interpolation=cv2.INTER_AREA)
    return np.packbits(cells[:, :-1] < cells[:, 1:]).view(np.uint64)


def near_pairs(hashes: NDArray[np.uint64]) -> Iterator[tuple[int, int]]:
    """Yield (i, j), i < j: for each row j of `hashes` [N, 4] the first i within NEAR_BITS of it, if any."""
    for start in range(0, len(hashes), _CHUNK):
        later = hashes[start : start + _CHUNK]
        earlier = hashes[: start + len(later)]
        distance = np.zeros((len(later), len(earlier)), np.uint16)
        for word in range(hashes.shape[1]):
            distance += np.bitwise_count(later[:, None, word] ^ earlier[None, :, word])
        near = distance <= NEAR_BITS
        near &= np.arange(len(earlier))[None, :] < (start + np.arange(len(later)))[:, None]
        for row in np.flatnonzero(near.any(axis=1)):
            yield int(near[row].argmax()), start + int(row)
