"""What is refused, how it is named, and that nothing else ever comes out of a broken file."""

import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.vision.decode import ImageTooLarge, NotAnImage, TruncatedImage, decode_image

KINDS = ["JPEG", "PNG", "WEBP", "BMP"]
REFUSALS = (NotAnImage, TruncatedImage, ImageTooLarge)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def black_png(width: int, height: int) -> bytes:
    """A valid one-bit PNG whose file is small however many pixels it has."""
    packer = zlib.compressobj(9)
    row = bytes(1 + (width + 7) // 8)
    rows = b"".join(packer.compress(row * 1000) for _ in range(height // 1000)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")
    )


def test_an_empty_body() -> None:
    with pytest.raises(NotAnImage, match="empty"):
        decode_image(b"")


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"GIF89a" + bytes(20), "a GIF"),
        (b"  \n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><svg/>", "SVG"),
        (b"%PDF-1.7", "a PDF"),
        (b"PK\x03\x04", "a ZIP"),
        (b"II*\x00" + bytes(20), "a TIFF"),
        (b"hello, this is text", "68 65 6c 6c 6f"),
        (b"\x00" * 100, "00 00"),
    ],
)
def test_other_kinds_of_files_are_named(data: bytes, named: str) -> None:
    with pytest.raises(NotAnImage, match=named):
        decode_image(data)


@pytest.mark.parametrize("kind", KINDS)
def test_cut_off_anywhere(kind, colours, encode) -> None:
    data = encode(Image.fromarray(colours[..., :3]), kind)
    for length in [*range(16, min(1200, len(data)), 7), len(data) - 1, len(data) - 2, len(data) // 2]:
        with pytest.raises(TruncatedImage):
            decode_image(data[:length])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "tail", [b"PK\x03\x04stuff", b"<html>", b"\n<?php", b"%PDF-1.4", b"MZ\x90", b"#!/bin/sh", b"GIF89a"]
)
def test_polyglots(kind, tail, colours, encode) -> None:
    with pytest.raises(NotAnImage, match="followed by"):
        decode_image(encode(Image.fromarray(colours[..., :3]), kind) + tail)


@pytest.mark.parametrize("kind", KINDS)
def test_random_damage_gives_pixels_or_one_of_three_errors(kind, colours, encode) -> None:
    options = {"progressive": True} if kind == "JPEG" else {}
    data = encode(Image.fromarray(colours[..., :3]), kind, **options)
    rng = np.random.default_rng(4)
    refused = 0
    for _ in range(400):
        broken = bytearray(data)
        for position in rng.integers(0, min(len(data), 3000), rng.integers(1, 5)):
            broken[position] = rng.integers(256)
        try:
            image = decode_image(bytes(broken), max_pixels=1_000_000)
        except REFUSALS:
            refused += 1
        else:
            assert image.dtype == np.uint8
            assert image.ndim == 3
    assert refused > 0


def test_a_200_megapixel_bomb_is_refused_from_its_header() -> None:
    bomb = black_png(20_000, 10_000)
    assert len(bomb) < 100_000
    started = time.thread_time()
    with pytest.raises(ImageTooLarge, match=r"20000 x 10000 = 200,000,000 pixels; at most 50,000,000"):
        decode_image(bomb)
    assert time.thread_time() - started < 0.1


def test_the_bomb_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(black_png(20_000, 10_000))
    code = f"""
import resource
from shared.vision.decode import ImageTooLarge, decode_image
data = open({str(tmp_path / "bomb.png")!r}, "rb").read()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 16 * 2**20,) * 2)
try:
    decode_image(data)
except ImageTooLarge:
    print("refused")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "refused", result.stderr


def test_the_limit_is_inclusive(encode) -> None:
    data = encode(Image.new("RGB", (100, 50)), "PNG")
    assert decode_image(data, max_pixels=5000).shape == (50, 100, 3)
    with pytest.raises(ImageTooLarge):
        decode_image(data, max_pixels=4999)


@pytest.mark.parametrize("side", [60_000, 65_535])
def test_a_jpeg_header_that_claims_billions_of_pixels(side, colours, encode) -> None:
    data = bytearray(encode(Image.fromarray(colours[..., :3]), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    with pytest.raises(ImageTooLarge):
        decode_image(bytes(data))


def test_a_jpeg_longer_than_its_decoder_takes(colours, encode) -> None:
    data = bytearray(encode(Image.fromarray(colours[..., :3]), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65_535, 1)
    with pytest.raises(ImageTooLarge, match="65,500"):
        decode_image(bytes(data))


def test_headers_that_claim_more_than_the_data_holds(colours, encode) -> None:
    jpeg = bytearray(encode(Image.fromarray(colours[..., :3]), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 2000, 2000)
    with pytest.raises(TruncatedImage):
        decode_image(bytes(jpeg))
    png = encode(Image.fromarray(colours[..., :3]), "PNG")
    header = struct.pack(">II", 2000, 2000) + png[24:29]
    with pytest.raises(NotAnImage):
        decode_image(png[:8] + png_chunk(b"IHDR", header) + png[33:])
    bmp = bytearray(encode(Image.fromarray(colours[..., :3]), "BMP"))
    bmp[18:26] = struct.pack("<ii", 2000, -2000)
    with pytest.raises(TruncatedImage):
        decode_image(bytes(bmp))


def test_zero_sides(colours, encode) -> None:
    jpeg = bytearray(encode(Image.fromarray(colours[..., :3]), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 7] = b"\x00\x00"
    with pytest.raises(NotAnImage, match="90 x 0"):
        decode_image(bytes(jpeg))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_with_endless_scans_is_refused_quickly(progressive, colours, encode) -> None:
    """Each scan costs a pass over all pixels: a small file could keep a core busy for minutes."""
    data = encode(Image.fromarray(colours[..., :3]), "JPEG", progressive=progressive)
    last = data.rindex(b"\xff\xda")
    with pytest.raises(NotAnImage, match="scans"):
        decode_image(data[:-2] + data[last:-2] * 500 + data[-2:])


def test_animated_webp(colours, encode) -> None:
    frame = Image.fromarray(colours[..., :3])
    with pytest.raises(NotAnImage, match="animated"):
        decode_image(encode(frame, "WEBP", save_all=True, append_images=[frame.rotate(90)]))


def test_endless_empty_chunks_end_soon(colours, encode) -> None:
    png = encode(Image.fromarray(colours[..., :3]), "PNG")
    padding = png_chunk(b"tEXt", b"") * 200_000
    started = time.thread_time()
    with pytest.raises(NotAnImage, match="chunks"):
        decode_image(png[:33] + padding + png[33:])
    assert time.thread_time() - started < 1.0


def test_endless_fill_bytes_end_soon(colours, encode) -> None:
    jpeg = encode(Image.fromarray(colours[..., :3]), "JPEG")
    filled = jpeg[:2] + b"\xff" * 20_000_000
    started = time.thread_time()
    with pytest.raises(TruncatedImage):
        decode_image(filled)
    assert time.thread_time() - started < 0.5


def test_a_marker_may_follow_fill_bytes(colours, encode) -> None:
    jpeg = encode(Image.fromarray(colours[..., :3]), "JPEG")
    assert (decode_image(jpeg[:2] + b"\xff" * 3 + jpeg[2:]) == decode_image(jpeg)).all()
