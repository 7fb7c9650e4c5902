"""What pictures are read as. Pillow is the independent reader."""

import io
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from shared.vision.decode import decode_image


def pillow_rgb(data: bytes) -> np.ndarray:
    """Upright RGB over white, by Pillow."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    if "A" in image.mode or "transparency" in image.info:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return np.asarray(image.convert("RGB"))


def assert_same(data: bytes, tolerance: int = 1) -> None:
    decoded, expected = decode_image(data), pillow_rgb(data)
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).max() <= tolerance


MODES = {
    "JPEG": ["RGB", "L"],
    "PNG": ["RGB", "L", "P", "1"],
    "WEBP": ["RGB", "L", "P"],
    "BMP": ["RGB", "L", "P", "1"],
}


@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind in MODES for mode in MODES[kind]])
def test_every_format_and_mode(kind, mode, colours, encode) -> None:
    assert_same(encode(Image.fromarray(colours[..., :3]).convert(mode), kind))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(orientation, kind, colours, encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    assert_same(encode(Image.fromarray(colours[..., :3]), kind, exif=exif, **options))


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_that_does_not_exist_is_ignored(orientation, colours, encode) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert decode_image(encode(Image.fromarray(colours[..., :3]), "JPEG", exif=exif)).shape == (60, 90, 3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_white(kind, mode, colours, encode) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert_same(encode(Image.fromarray(colours).convert(mode), kind, **options))


def test_wholly_transparent_is_white(encode) -> None:
    assert (decode_image(encode(Image.new("RGBA", (8, 8), (200, 10, 10, 0)), "PNG")) == 255).all()


def test_a_palette_with_transparency(colours, encode) -> None:
    palette = Image.fromarray(colours[..., :3]).convert("P")
    assert_same(encode(palette, "PNG", transparency=bytes(range(256))))


def test_sixteen_bits_are_scaled_to_eight() -> None:
    values = np.random.default_rng(1).integers(0, 65_536, (20, 30, 3), np.uint16)
    data = cv2.imencode(".png", values[..., ::-1])[1].tobytes()
    assert np.abs(decode_image(data) - values.astype(float) * 255 / 65_535).max() <= 0.5


def test_sixteen_bit_grey() -> None:
    values = np.array([[0, 256, 32_768, 65_535]], np.uint16)
    data = cv2.imencode(".png", values)[1].tobytes()
    assert decode_image(data)[0, :, 0].tolist() == [0, 1, 128, 255]  # round(v / 257)


def test_cmyk_with_adobe_inverted_inks(colours, encode) -> None:
    data = encode(Image.fromarray(colours, "CMYK"), "JPEG", quality=95)
    assert b"Adobe" in data  # Pillow writes inverted inks and says so
    assert_same(data)


def test_cmyk_without_adobe_marker_is_read_alike(colours, encode) -> None:
    data = encode(Image.fromarray(colours, "CMYK"), "JPEG", quality=95)
    start = data.index(b"\xff\xee")
    plain = data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]
    assert_same(plain)


def test_progressive_jpeg(colours, encode) -> None:
    assert_same(encode(Image.fromarray(colours[..., :3]), "JPEG", progressive=True))


def test_bmp_ignores_its_unused_fourth_channel(colours) -> None:
    rows = colours.copy()
    rows[..., 3] = 0
    header = b"BM" + (54 + rows.nbytes).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    info = (40).to_bytes(4, "little") + (90).to_bytes(4, "little") + (60).to_bytes(4, "little")
    info += (1).to_bytes(2, "little") + (32).to_bytes(2, "little") + bytes(24)
    data = header + info + rows[::-1, :, [2, 1, 0, 3]].tobytes()
    assert (decode_image(data) == colours[..., :3]).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9000), (9000, 1)])
def test_pictures_one_pixel_wide(kind, size, encode) -> None:
    assert decode_image(encode(Image.new("RGB", size, (9, 9, 9)), kind)).shape == (size[1], size[0], 3)


def test_one_by_65535_png(encode) -> None:
    assert decode_image(encode(Image.new("RGB", (1, 65_535)), "PNG")).shape == (65_535, 1, 3)


def test_stray_bytes_inside_a_jpeg_are_forgiven_as_everywhere_else(colours, encode) -> None:
    data = encode(Image.fromarray(colours[..., :3]), "JPEG")
    stray = data[:-2] + b"\x11\x22\x33\x44" + data[-2:]
    assert_same(stray, tolerance=0)


def test_a_preview_or_film_behind_the_picture_is_ignored(colours, encode) -> None:
    data = encode(Image.fromarray(colours[..., :3]), "JPEG")
    film = data + b"\x00\x00\x00\x18ftypmp42" + bytes(100)
    assert (decode_image(film) == decode_image(data)).all()
    assert (decode_image(data + data) == decode_image(data)).all()


def test_other_threads_run_while_a_picture_is_decoded() -> None:
    grain = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), np.uint8)
    data = cv2.imencode(".jpg", np.tile(grain, (6, 6, 1)))[1].tobytes()
    done = threading.Event()
    started, ended = [0.0], [0.0]

    def decode() -> None:
        started[0] = time.perf_counter()
        decode_image(data)
        ended[0] = time.perf_counter()
        done.set()

    thread = threading.Thread(target=decode)
    thread.start()
    ticks = 0
    while not done.is_set():
        if started[0]:
            ticks += 1
        time.sleep(0.002)
    thread.join()
    # With the lock held throughout, the loop above could turn only before and after.
    assert ticks >= 5, f"{ticks} turns in {ended[0] - started[0]:.3f} s"


def test_pillow_and_torch_are_not_loaded() -> None:
    code = (
        "import sys\n"
        "import shared.vision.decode, shared.vision.drawing, shared.vision.letterbox, shared.vision.nms\n"
        "print([name for name in ('PIL', 'torch') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
