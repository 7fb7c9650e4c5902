"""What preprocessing wrote about a set and about each of its sequences, checked."""

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from shared.data.events.preprocess import SETTINGS_FILE
from shared.data.events.sequence import SUMMARY, settings_digest
from shared.data.formats.errors import DatasetUnreadable


class SetDocument(BaseModel):
    """Of `preprocess.json`, what the frames' readers need; `PreprocessSettings` says what it means."""

    model_config = ConfigDict(frozen=True, strict=True)

    classes: list[str] = Field(min_length=1)
    representation: Literal["stacked_histogram", "mixed_density", "ternary_volume"]
    bins: PositiveInt
    window_ms: PositiveInt
    half: bool
    cutoff: PositiveInt | None


class SequenceDocument(BaseModel):
    """Of `recording.json`, the same. settings: digest; frame: (channels, height, width)."""

    model_config = ConfigDict(frozen=True, strict=True)

    settings: str
    sensor: tuple[PositiveInt, PositiveInt]
    frame: tuple[PositiveInt, PositiveInt, PositiveInt]
    windows: PositiveInt
    repairs: dict[str, int] = {}


def read_set_document(path: Path) -> tuple[SetDocument, str]:
    """Return the settings of the set at `path` and their digest. Raises DatasetUnreadable."""
    try:
        text = (path / SETTINGS_FILE).read_bytes()
        return SetDocument.model_validate_json(text), settings_digest(json.loads(text))
    except (FileNotFoundError, NotADirectoryError) as error:
        above = f"; {path.parent} is one" if (path.parent / SETTINGS_FILE).is_file() else ""
        raise DatasetUnreadable(
            f"{path} has no {SETTINGS_FILE}: it is not a folder that `sightline data preprocess` made{above}"
        ) from error
    except (OSError, ValidationError) as error:
        raise DatasetUnreadable(f"{path / SETTINGS_FILE} cannot be used: {_reason(error)}") from error


def read_sequence_document(folder: Path) -> SequenceDocument:
    """Return what is known of the sequence in `folder`. Raises DatasetUnreadable."""
    try:
        return SequenceDocument.model_validate_json((folder / SUMMARY).read_bytes())
    except (OSError, ValidationError) as error:
        raise damaged(folder / SUMMARY, _reason(error)) from error


def damaged(path: Path, what: str) -> DatasetUnreadable:
    """Return the error that says that the sequence of `path` is to be made again."""
    return DatasetUnreadable(
        f"{path} is not whole ({what}); remove that recording's folder and run "
        "`sightline data preprocess` again"
    )


def _reason(error: OSError | ValidationError) -> str:
    if isinstance(error, OSError):
        return str(error)
    return "; ".join(
        ": ".join(filter(None, [".".join(map(str, problem["loc"])), problem["msg"]]))
        for problem in error.errors()
    )
