"""Readers of labelled pictures, found by name; a new format is one module and one line in READERS."""

from shared.data.formats.registry import (
    DatasetUnreadable,
    find_splits,
    read_detection_set,
)

__all__ = ["DatasetUnreadable", "find_splits", "read_detection_set"]
