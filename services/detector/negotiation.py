"""Which of two forms of an answer a client prefers (RFC 9110, section 12.5.1)."""

from shared.core.problems import Problem

JSON = "application/json"
JPEG = "image/jpeg"
PNG = "image/png"


class NotAcceptable(Problem):
    status, code, title = 406, "not_acceptable", "No form of the answer is acceptable"


def preferred_type(accept: str | None, picture: str = JPEG) -> str:
    """Return JSON or `picture` for the value of an Accept header, JSON where the client is indifferent.

    The higher quality wins, then the more specific range. Raises NotAcceptable where both are ruled out.
    """
    if not accept or not accept.strip() or accept.strip() == "*/*":
        return JSON
    ranges = [_parse(part) for part in accept.split(",") if part.strip()]
    json, drawn = _rank(JSON, ranges), _rank(picture, ranges)
    if not json[0] and not drawn[0]:
        raise NotAcceptable(f"Accept: {accept[:200]} allows neither {JSON} nor {picture}")
    return picture if drawn > json else JSON


def require_type(accept: str | None, media_type: str) -> None:
    """Raise NotAcceptable where an Accept header rules out the only form that an answer has."""
    if accept and accept.strip():
        ranges = [_parse(part) for part in accept.split(",") if part.strip()]
        if not _rank(media_type, ranges)[0]:
            raise NotAcceptable(f"Accept: {accept[:200]} does not allow {media_type}, which was asked for")


def _parse(media_range: str) -> tuple[str, float]:
    kind, *parameters = (part.strip().lower() for part in media_range.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = min(1.0, max(0.0, float(value)))
            except ValueError:
                quality = 0.0  # a range that cannot be understood asks for nothing
            if quality != quality:
                quality = 0.0
    return kind, quality


def _rank(media_type: str, ranges: list[tuple[str, float]]) -> tuple[float, int]:
    """Return (quality, specificity) of the most specific range that covers `media_type`."""
    specificity = {media_type: 2, media_type.split("/")[0] + "/*": 1, "*/*": 0}
    covering = [(specificity[kind], quality) for kind, quality in ranges if kind in specificity]
    if not covering:
        return 0.0, -1
    most_specific, quality = max(covering)
    return quality, most_specific
