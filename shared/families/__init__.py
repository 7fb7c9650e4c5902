"""Families of models: found by name, each with its config, network, targets, loss, decode and recipes.

Importing this package loads no torch; `get_family` does.
"""

from shared.families.family import ClassificationFamily, DetectionFamily, Family
from shared.families.registry import (
    UnknownFamily,
    config_class,
    family_names,
    family_task,
    get_family,
    recipes_dir,
)

__all__ = [
    "ClassificationFamily",
    "DetectionFamily",
    "Family",
    "UnknownFamily",
    "config_class",
    "family_names",
    "family_task",
    "get_family",
    "recipes_dir",
]
