"""Turn the bytes of a picture from anywhere into RGB pixels, or say plainly why not.

What is accepted: JPEG, PNG, WebP and BMP, recognised by structure; one picture per file.
- EXIF orientation (JPEG, PNG, WebP) is applied, so that boxes mean what people see.
- Grey and palette become RGB. 16 bits per channel are scaled to 8. CMYK and YCCK become RGB without a colour
  profile; their inks are taken as stored inverted, as Adobe writes them and other readers assume.
- Transparency is laid over white. The fourth channel of a BMP is ignored, since most writers leave it empty,
  and so is the single transparent grey that a grey PNG may name.
- Data after the picture is ignored: phones store films and previews there, and only pixels leave this module.
  If that data begins as another kind of file (HTML, ZIP, PDF, a program, ...), the whole is refused.
- The size is read from the header and checked before anything is decoded.
"""

import re

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from shared.vision.headers import (
    ImageHeader,
    ImageTooLarge,
    NotAnImage,
    TruncatedImage,
    foreign_signature,
    read_header,
)

__all__ = ["DEFAULT_MAX_PIXELS", "ImageTooLarge", "NotAnImage", "TruncatedImage", "decode_image"]

DEFAULT_MAX_PIXELS = 50_000_000
MAX_JPEG_SIDE = 65_500  # libjpeg's own limit
MAX_JPEG_SCANS = 32  # a progressive file has about ten; each one costs a pass over the whole picture

_END_OF_SCAN = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")


def decode_image(data: bytes, *, max_pixels: int = DEFAULT_MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode one picture to contiguous uint8 [H, W, 3] RGB, upright.

    Raises NotAnImage, TruncatedImage or ImageTooLarge (all ValueError). The interpreter lock is released
    while pixels are decoded, so threads decode in parallel; cv2.setNumThreads is left to the caller.
    """
    header = read_header(data)
    if header.width * header.height > max_pixels:
        raise ImageTooLarge(
            f"the picture has {header.width} x {header.height} = {header.width * header.height:,} pixels; "
            f"at most {max_pixels:,} are allowed"
        )
    _refuse_polyglot(data, header)
    image = _decode_jpeg(data, header) if header.format == "JPEG" else _decode_other(data, header)
    if image.shape[:2] != (header.height, header.width):
        raise NotAnImage(
            f"the {header.format} header states {header.width} x {header.height} pixels, "
            f"its data {image.shape[1]} x {image.shape[0]}"
        )
    return apply_orientation(image, header.orientation)


def apply_orientation(image: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return `image` turned upright from an EXIF orientation (1..8), contiguous."""
    if orientation >= 5:
        image = np.asarray(cv2.transpose(image), np.uint8)
    # What is left after the transposition: none, mirrored, half turn, upside down.
    flip = {1: None, 2: 1, 3: -1, 4: 0, 5: None, 6: 1, 7: -1, 8: 0}[orientation]
    return image if flip is None else np.asarray(cv2.flip(image, flip), np.uint8)


def _refuse_polyglot(data: bytes, header: ImageHeader) -> None:
    end = header.end
    if header.format == "JPEG":
        if data.endswith(b"\xff\xd9") and data.count(b"\xff\xda") <= MAX_JPEG_SCANS:
            return  # nearly every picture; the count is never below the true one
        end = _jpeg_end(data, header.end)
    if end < len(data) and (kind := foreign_signature(data[end : end + 64])):
        raise NotAnImage(f"the {header.format} picture is followed by {kind}; send the picture alone")


def _jpeg_end(data: bytes, scan: int) -> int:
    """Return the offset after the end-of-image marker, or the data's length if there is none."""
    offset, scans = scan, 1
    while match := _END_OF_SCAN.search(data, offset):
        marker = data[match.start() + 1]
        if marker == 0xD9:
            return match.end()
        if marker == 0xDA:
            scans += 1
            if scans > MAX_JPEG_SCANS:
                raise NotAnImage(f"the JPEG has more than {MAX_JPEG_SCANS} scans; save it again with fewer")
        length = int.from_bytes(data[match.end() : match.end() + 2], "big")
        offset = match.end() + max(2, length)
    return len(data)


def _decode_jpeg(data: bytes, header: ImageHeader) -> NDArray[np.uint8]:
    if max(header.width, header.height) > MAX_JPEG_SIDE:
        raise ImageTooLarge(
            f"the JPEG is {header.width} x {header.height} pixels; a side may have {MAX_JPEG_SIDE:,}"
        )
    colorspace = "CMYK" if header.components == 4 else "RGB"
    try:
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace=colorspace)
    except ValueError as error:
        image = _decode_flawed_jpeg(data, colorspace, str(error))
    return image if header.components != 4 else _cmyk_to_rgb(image)


def _decode_flawed_jpeg(data: bytes, colorspace: str, flaw: str) -> NDArray[np.uint8]:
    """Decide what to do about libjpeg's complaint: stray bytes are skipped, missing data is refused."""
    lowered = flaw.lower()
    if "premature end" in lowered:
        raise TruncatedImage("the JPEG's data ends before the picture does")
    if "extraneous bytes" not in lowered:
        raise NotAnImage(f"broken JPEG: {flaw}")
    try:
        image: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, colorspace=colorspace, strict=False)
    except ValueError as error:
        raise NotAnImage(f"broken JPEG: {error}") from None
    return image


def _cmyk_to_rgb(light: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Mix inks to RGB without a profile: (255 - C)(255 - K) / 255. `light` holds 255 - ink for each ink."""
    black = cv2.cvtColor(np.ascontiguousarray(light[..., 3]), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.multiply(np.ascontiguousarray(light[..., :3]), black, scale=1 / 255), np.uint8)


def _decode_other(data: bytes, header: ImageHeader) -> NDArray[np.uint8]:
    plain = not header.has_alpha and header.bits <= 8
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION if plain else cv2.IMREAD_UNCHANGED
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise NotAnImage(f"broken {header.format}: {error.err or error}") from None
    if image is None:
        raise NotAnImage(f"broken {header.format}: its picture data cannot be decoded")
    if image.dtype == np.uint16:  # here, so that nothing holds the larger array any longer
        image = cv2.convertScaleAbs(image, alpha=1 / 257)
    return np.asarray(image if plain else _to_opaque_rgb(image), np.uint8)


def _to_opaque_rgb(image: cv2.typing.MatLike) -> cv2.typing.MatLike:
    """Bring grey, BGR or BGRA to RGB, all of 8 bits, transparency laid over white."""
    if image.ndim == 2:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    if image.shape[2] == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    colour = cv2.cvtColor(image, cv2.COLOR_BGRA2RGB)
    alpha = cv2.cvtColor(np.ascontiguousarray(image[..., 3]), cv2.COLOR_GRAY2RGB)
    # colour * alpha + white * (1 - alpha), rounded twice: within 1 of the exact value. In place, because
    # each array more is 150 MB for the largest picture allowed.
    cv2.multiply(colour, alpha, colour, scale=1 / 255)
    return cv2.add(colour, cv2.bitwise_not(alpha, alpha), colour)
