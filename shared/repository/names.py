"""Names of models and aliases, which become folders, URLs and metric labels."""

import re

from shared.repository.problems import InvalidName

MODEL_NAME = re.compile(r"^[a-z0-9][a-z0-9_.-]{0,63}$")
# An alias never looks like a number, so `version` in a URL or on the command line is never ambiguous.
ALIAS_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def check_model_name(name: str) -> str:
    """Return `name`, or raise InvalidName if it cannot name a model."""
    if not MODEL_NAME.fullmatch(name):
        raise InvalidName(
            f"{name!r} cannot name a model: use 1 to 64 of a-z, 0-9, '_', '-' and '.', "
            "beginning with a letter or a digit"
        )
    return name


def check_alias_name(alias: str) -> str:
    """Return `alias`, or raise InvalidName if it cannot name a version."""
    if not ALIAS_NAME.fullmatch(alias):
        raise InvalidName(
            f"{alias!r} cannot be an alias: use 1 to 32 of a-z, 0-9, '_' and '-', beginning with a letter"
        )
    return alias
