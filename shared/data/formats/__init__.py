"""Readers of labelled pictures, found by name; a new format is one module and one line in its table.

Detection: READERS in registry.py. Classification: CLASSIFICATION_READERS in classification.py.
"""

from shared.data.formats.registry import (
    DatasetUnreadable,
    find_splits,
    read_detection_set,
)

__all__ = ["DatasetUnreadable", "find_splits", "read_detection_set"]
