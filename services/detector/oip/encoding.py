"""Content codings: gzip and deflate (zlib's format, RFC 9110 section 8.4.1), both ways and bounded."""

import zlib

from services.detector.oip.problems import UnknownEncoding, WrongRequest
from shared.core.problems import PayloadTooLarge

# zlib's window bits: 15, plus 16 for the header and trailer of gzip.
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_LEVEL = 1  # a tensor is not worth more: level 6 takes three times as long for a few percent


def is_encoded(content_encoding: str | None) -> bool:
    """Return whether a body with this Content-Encoding has to be decompressed.

    Raises UnknownEncoding for a coding that is not gzip or deflate, or for several of them.
    """
    coding = (content_encoding or "identity").strip().lower()
    if coding in ("identity", ""):
        return False
    if coding not in _WINDOW_BITS:
        raise UnknownEncoding(
            f"Content-Encoding: {coding[:40]!r} is not known here; send gzip, deflate or none"
        )
    return True


def decompress(body: bytes, content_encoding: str, limit_bytes: int) -> bytes:
    """Return `body` decompressed. Raises PayloadTooLarge past `limit_bytes`, WrongRequest for a wrong stream.

    No more than `limit_bytes` and one are ever held, whatever the stream would grow to.
    """
    coding = content_encoding.strip().lower()
    stream = zlib.decompressobj(_WINDOW_BITS[coding])
    try:
        plain = stream.decompress(body, limit_bytes + 1)
    except zlib.error as error:
        raise WrongRequest(f"the body is not {coding} as Content-Encoding says: {error}") from error
    if len(plain) > limit_bytes:
        raise PayloadTooLarge(
            f"the body has more than {limit_bytes:,} bytes once decompressed", limit_bytes=limit_bytes
        )
    if not stream.eof:
        raise WrongRequest(f"the {coding} stream ends too early, after {len(body)} bytes")
    if stream.unused_data:
        raise WrongRequest(f"{len(stream.unused_data)} bytes are left behind the {coding} stream")
    return plain


def compress(body: bytes, coding: str) -> bytes:
    """Return `body` in `coding`, gzip or deflate."""
    stream = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS[coding])
    return stream.compress(body) + stream.flush()


def accepted(accept_encoding: str | None) -> str | None:
    """Return the coding of the answer for an Accept-Encoding: gzip, deflate or None for no coding.

    The higher quality wins, then gzip; a client that says nothing or wants it plain gets it plain.
    """
    if not accept_encoding:
        return None
    qualities = dict(_quality(part) for part in accept_encoding.lower().split(","))
    others = qualities.get("*", 0.0)
    gzip = max(qualities.get("gzip", others), qualities.get("x-gzip", 0.0))
    deflate = qualities.get("deflate", others)
    plain = qualities.get("identity", others)
    if not max(gzip, deflate) > plain:
        return None
    return "gzip" if gzip >= deflate else "deflate"


def _quality(part: str) -> tuple[str, float]:
    coding, *parameters = (piece.strip() for piece in part.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return coding, min(1.0, max(0.0, float(value)))
            except ValueError:
                return coding, 0.0  # a coding that cannot be understood is not asked for
    return coding, 1.0
