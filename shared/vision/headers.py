"""What a picture file says about itself, read without decoding a pixel.

Sizes are known here in microseconds, so that a picture of 200 megapixels is refused before any memory is
taken for it. Four formats are read, JPEG, PNG, WebP and BMP, by their structure and not only by their first
bytes. Numbers of segments are bounded, so that no file makes the walk long.
"""

import re
import struct
from dataclasses import dataclass
from typing import Literal

ImageFormat = Literal["JPEG", "PNG", "WebP", "BMP"]

MAX_JPEG_SEGMENTS = 4096
MAX_PNG_CHUNKS = 65_536
MAX_WEBP_CHUNKS = 1024

_AFTER_FILL = re.compile(rb"[^\xff]", re.DOTALL)

# First bytes of what people send by mistake, or on purpose, instead of a picture.
FOREIGN_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"GIF8", "a GIF"),
    (b"<", "SVG, HTML or XML text"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "a ZIP archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"#!", "a script"),
    (b"II*\x00", "a TIFF"),
    (b"MM\x00*", "a TIFF"),
)


class NotAnImage(ValueError):
    """The bytes are no JPEG, PNG, WebP or BMP picture, or a broken or unsupported one."""


class TruncatedImage(ValueError):
    """The picture's data ends before the picture does."""


class ImageTooLarge(ValueError):
    """The picture has more pixels than allowed; found in the header, before decoding."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """A picture's properties as stored: `width` and `height` are before, `size` is after EXIF rotation.

    orientation: EXIF's 1..8, 1 where none is stated. bits: per channel. components: JPEG's colour channels,
    0 for the other formats. end: offset of the first byte after the picture; for JPEG the start of its
    compressed data, whose end only a scan can find.
    """

    format: ImageFormat
    width: int
    height: int
    orientation: int
    end: int
    has_alpha: bool = False
    bits: int = 8
    components: int = 0

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels as people see the picture."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)


def read_header(data: bytes) -> ImageHeader:
    """Return the header of a JPEG, PNG, WebP or BMP file.

    Raises NotAnImage for anything else and for broken structure, TruncatedImage where the data ends too soon.
    """
    if not data:
        raise NotAnImage("the picture is empty (0 bytes)")
    try:
        if data.startswith(b"\xff\xd8"):
            header = _read_jpeg(data)
        elif data.startswith(b"\x89PNG\r\n\x1a\n"):
            header = _read_png(data)
        elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            header = _read_webp(data)
        elif data.startswith(b"BM"):
            header = _read_bmp(data)
        else:
            raise NotAnImage(_describe_foreign(data))
    except (struct.error, IndexError):  # every read past the end comes here
        raise TruncatedImage(f"the picture's header ends after {len(data)} bytes") from None
    if header.width < 1 or header.height < 1:
        raise NotAnImage(f"the {header.format} header states {header.width} x {header.height} pixels")
    return header


def foreign_signature(data: bytes) -> str | None:
    """Name the other kind of file that `data` begins with, or return None."""
    start = data[:64].lstrip(b"\0 \t\r\n\xef\xbb\xbf")
    return next((name for signature, name in FOREIGN_SIGNATURES if start.startswith(signature)), None)


def exif_orientation(tiff: bytes) -> int:
    """Return the orientation (1..8) in an EXIF block (TIFF structure); 1 where it is missing or broken."""
    byte_order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(tiff[:4])
    if byte_order is None:
        return 1
    try:
        (offset,) = struct.unpack_from(byte_order + "I", tiff, 4)
        (count,) = struct.unpack_from(byte_order + "H", tiff, offset)
        for entry in range(min(count, 512)):
            tag, kind = struct.unpack_from(byte_order + "HH", tiff, offset + 2 + 12 * entry)
            if tag == 0x0112 and kind == 3:
                (value,) = struct.unpack_from(byte_order + "H", tiff, offset + 2 + 12 * entry + 8)
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1  # a camera's broken EXIF block does not spoil its picture
    return 1


def _describe_foreign(data: bytes) -> str:
    kind = foreign_signature(data)
    found = f"the data is {kind}" if kind else f"the data begins with {data[:8].hex(' ')}"
    return f"{found}, not a picture in JPEG, PNG, WebP or BMP format"


def _read_jpeg(data: bytes) -> ImageHeader:
    offset, orientation = 2, 1
    frame: tuple[int, int, int, int] | None = None
    frame_marker = 0
    for _ in range(MAX_JPEG_SEGMENTS):
        if data[offset] != 0xFF:
            raise NotAnImage(f"broken JPEG: no marker at byte {offset}")
        code = _AFTER_FILL.search(data, offset)  # a marker may be preceded by any number of fill bytes
        if code is None:
            raise TruncatedImage("the JPEG ends inside its header")
        marker, offset = data[code.start()], code.end()
        if marker == 0x01:
            continue
        if marker in (0x00, 0xD8, 0xD9) or 0xD0 <= marker <= 0xD7:
            raise NotAnImage(f"broken JPEG: marker FF{marker:02X} before any picture data")
        (length,) = struct.unpack_from(">H", data, offset)
        body = offset + 2
        if length < 2:
            raise NotAnImage(f"broken JPEG: a segment of {length} bytes at byte {offset}")
        if marker == 0xE1 and orientation == 1 and data[body : body + 6] == b"Exif\0\0":
            orientation = exif_orientation(data[body + 6 : offset + length])
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if frame is not None:
                raise NotAnImage("broken JPEG: two frame headers")
            frame, frame_marker = struct.unpack_from(">BHHB", data, body), marker
        offset += length
        if marker == 0xDA:
            if frame is None:
                raise NotAnImage("broken JPEG: picture data before the frame header")
            if offset >= len(data):
                raise TruncatedImage("the JPEG ends before its picture data")
            return _jpeg_header(frame, frame_marker, orientation, offset)
    raise NotAnImage(f"broken JPEG: more than {MAX_JPEG_SEGMENTS} segments before the picture data")


def _jpeg_header(frame: tuple[int, int, int, int], marker: int, orientation: int, scan: int) -> ImageHeader:
    bits, height, width, components = frame
    if marker not in (0xC0, 0xC1, 0xC2):
        raise NotAnImage(f"JPEG of kind SOF{marker - 0xC0} is not supported; save it as baseline JPEG")
    if bits != 8:
        raise NotAnImage(f"JPEG with {bits} bits per channel is not supported; save it with 8")
    if components not in (1, 3, 4):
        raise NotAnImage(f"JPEG with {components} colour channels is not supported")
    return ImageHeader("JPEG", width, height, orientation, scan, components=components)


def _read_png(data: bytes) -> ImageHeader:
    if data[12:16] != b"IHDR":
        raise NotAnImage("broken PNG: it does not begin with an IHDR chunk")
    width, height, bits, colour_type = struct.unpack_from(">IIBB", data, 16)
    has_alpha, orientation, offset = colour_type in (4, 6), 1, 8
    for _ in range(MAX_PNG_CHUNKS):
        length, kind = struct.unpack_from(">I4s", data, offset)
        body, offset = offset + 8, offset + 12 + length
        if offset > len(data):
            raise TruncatedImage(f"the PNG ends inside its {kind.decode('latin-1')} chunk")
        if kind == b"tRNS":
            has_alpha = True
        elif kind == b"eXIf":
            orientation = exif_orientation(data[body : body + length])
        elif kind == b"IEND":
            return ImageHeader("PNG", width, height, orientation, offset, has_alpha, bits)
    raise NotAnImage(f"broken PNG: more than {MAX_PNG_CHUNKS} chunks")


def _read_webp(data: bytes) -> ImageHeader:
    (riff_size,) = struct.unpack_from("<I", data, 4)
    end, offset = 8 + riff_size, 12
    if end > len(data):
        raise TruncatedImage(f"the WebP states {end} bytes and has {len(data)}")
    size: tuple[int, int] | None = None
    has_alpha, orientation = False, 1
    for _ in range(MAX_WEBP_CHUNKS):
        if offset + 8 > end:
            break
        kind, length = struct.unpack_from("<4sI", data, offset)
        body, offset = offset + 8, offset + 8 + length + (length & 1)
        if kind == b"VP8X":
            flags, low_w, high_w, low_h, high_h = struct.unpack_from("<B3xHBHB", data, body)
            if flags & 0x02:
                raise NotAnImage("animated WebP is not supported; send one frame")
            size = (1 + low_w + (high_w << 16), 1 + low_h + (high_h << 16))
            has_alpha = bool(flags & 0x10)
        elif kind == b"VP8 " and size is None:
            width, height = struct.unpack_from("<HH", data, body + 6)
            size = (width & 0x3FFF, height & 0x3FFF)
        elif kind == b"VP8L" and size is None:
            (packed,) = struct.unpack_from("<I", data, body + 1)
            size = (1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF))
            has_alpha = bool(packed >> 28 & 1)
        elif kind == b"EXIF":
            block = data[body : body + length]
            orientation = exif_orientation(block.removeprefix(b"Exif\0\0"))
    if size is None:
        raise NotAnImage("broken WebP: it holds no picture")
    return ImageHeader("WebP", *size, orientation, end, has_alpha)


def _read_bmp(data: bytes) -> ImageHeader:
    pixels_at, header_size = struct.unpack_from("<II", data, 10)
    if header_size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    elif header_size in (40, 52, 56, 64, 108, 124):
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    else:
        raise NotAnImage(f"the data begins like a BMP but its header has {header_size} bytes")
    height = abs(height)  # negative: rows from the top
    if bits not in (1, 4, 8, 16, 24, 32) or compression not in (0, 1, 2, 3, 6):
        raise NotAnImage(f"BMP with {bits} bits per pixel and compression {compression} is not supported")
    end = pixels_at
    if compression in (0, 3, 6):
        end += (width * bits + 31) // 32 * 4 * height
        if end > len(data) and width > 0:
            raise TruncatedImage(
                f"the BMP's {width} x {height} pixels need {end} bytes and it has {len(data)}"
            )
    else:
        end = len(data)
    return ImageHeader("BMP", width, height, 1, end)
