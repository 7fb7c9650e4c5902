"""The text lines that `.dat` and `.raw` files may begin with: `% keyword value`."""

import re
from dataclasses import dataclass
from pathlib import Path

_MAX_LINES, _MAX_LINE = 200, 4096


@dataclass(frozen=True, slots=True)
class FileHeader:
    """fields: keyword in lower case -> value. data_start: offset of the first byte after the lines.

    `present` is False where the file starts with data.
    """

    fields: dict[str, str]
    data_start: int

    @property
    def present(self) -> bool:
        return self.data_start > 0

    def size(self) -> tuple[int, int] | None:
        """(height, width) where some line states it."""
        fields = self.fields
        if fields.get("height", "").isdecimal() and fields.get("width", "").isdecimal():
            return _plausible(int(fields["height"]), int(fields["width"]))
        if match := re.fullmatch(r"(\d+)x(\d+)", fields.get("geometry", "")):
            return _plausible(int(match[2]), int(match[1]))
        parts = dict(re.findall(r"(height|width)=(\d+)", fields.get("format", "").lower()))
        if len(parts) == 2:
            return _plausible(int(parts["height"]), int(parts["width"]))
        return None


def read_header(path: Path) -> FileHeader:
    """Read the lines that begin with "% ", up to the first that does not, or up to "% end"."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        for _ in range(_MAX_LINES):
            start = file.tell()
            line = file.readline(_MAX_LINE)
            is_text = line.startswith(b"%") and line[1:2] in b" \n\r" and line.endswith(b"\n")
            if not is_text or not line.isascii():
                return FileHeader(fields, start)
            keyword, _, value = line[1:].decode().strip().partition(" ")
            if keyword.lower() == "end":
                break
            fields.setdefault(keyword.lower(), value.strip())
        return FileHeader(fields, file.tell())


def _plausible(height: int, width: int) -> tuple[int, int] | None:
    return (height, width) if height > 0 and width > 0 else None
