"""A small file can state a large picture, so what decoding takes at its peak is kept in bounds."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

SIDE_PX = 3000
PROGRAM = """
import re, sys
from pathlib import Path
import cv2
from shared.vision.decode import decode_image

def peak_bytes():  # unlike getrusage's, not that of the process which started this one
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

cv2.setNumThreads(1)
data = Path(sys.argv[1]).read_bytes()
before = peak_bytes()
height, width, _ = decode_image(data).shape
print((peak_bytes() - before) / (height * width))
"""


def transparent_png(bits: int) -> bytes:
    """A PNG of nothing but zeros with an alpha channel, some hundred kilobytes at any size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", SIDE_PX, SIDE_PX, bits, 6, 0, 0, 0)
    rows = zlib.compress(bytes((1 + SIDE_PX * bits // 2) * SIDE_PX), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


# Of 8 bits: BGRA 4, RGB 3, alpha for each channel 3 and alone 1. Of 16 bits: what OpenCV reads the file
# into and what it returns, 8 each. And 1 for everything else.
@pytest.mark.parametrize(("bits", "bytes_per_pixel"), [(8, 12), (16, 17)])
def test_a_transparent_picture_is_decoded_in_bounded_memory(
    tmp_path: Path, bits: int, bytes_per_pixel: int
) -> None:
    file = tmp_path / "picture.png"
    file.write_bytes(transparent_png(bits))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(file)], capture_output=True, text=True, check=True, timeout=60
    )
    assert 3 < float(done.stdout) < bytes_per_pixel
