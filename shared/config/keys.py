"""Every key that a run has, and pydantic's findings in those terms."""

import functools
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from shared.config.errors import nearest
from shared.config.schema import RunConfig


@functools.cache
def group_names(folder: Path) -> frozenset[str]:
    """Return the names of the config groups (folders of YAML files)."""
    return frozenset(path.name for path in folder.iterdir() if path.is_dir())


@functools.cache
def group_options(folder: Path, group: str) -> tuple[str, ...]:
    """Return the choices of one group."""
    return tuple(sorted(path.stem for path in (folder / group).glob("*.yaml")))


def dotted_keys(family: str) -> list[str]:
    """Return every settable key of a run of `family`, the model's own included: `trainer.max_epochs`, …"""
    from shared.families.registry import config_class

    keys = [key for key in _leaves(RunConfig) if key not in ("family", "recipe", "model")]
    return keys + [f"model.{key}" for key in _leaves(config_class(family))]


def is_key(family: str, key: str) -> bool:
    """Whether `key` is settable, or leads to settable ones."""
    return any(known == key or known.startswith(f"{key}.") for known in dotted_keys(family))


def unknown_key(key: str, family: str) -> str:
    """Return the message for a key that does not exist: the nearest right one, and those of its section."""
    keys = dotted_keys(family)
    meant = nearest(key, keys)
    question = f" Did you mean {meant!r}?" if meant else ""
    section = (meant or key).partition(".")[0]
    beside = [known for known in keys if known.startswith(f"{section}.")]
    if not beside:
        beside = sorted({known.partition(".")[0] for known in keys})
        return f"unknown key {key!r}.{question} Keys begin with: {', '.join(beside)}."
    return f"unknown key {key!r}.{question} Keys of {section}: {', '.join(beside)}."


def explain(error: ValidationError, family: str, under: str = "") -> list[str]:
    """Return one line per finding: the key, what was wrong with which value, what is allowed."""
    return [_explain_one(finding, family, under) for finding in error.errors()]


def _leaves(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += _leaves(kind, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def _explain_one(finding: Any, family: str, under: str) -> str:
    key = ".".join([*([under] if under else []), *(str(part) for part in finding["loc"])])
    value = finding["input"]
    if finding["type"] == "extra_forbidden":
        return unknown_key(key, family)
    if finding["type"] == "missing":
        return f"{key} is not set; add {key}=VALUE"
    if finding["type"] in ("literal_error", "enum"):
        allowed = finding["ctx"]["expected"]
        options = [option.strip("'") for option in allowed.replace(" or ", ", ").split(", ")]
        meant = nearest(str(value), options)
        question = f" Did you mean {meant!r}?" if meant else ""
        return f"{key}={value!r} is not allowed.{question} Allowed: {allowed}."
    message = finding["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{key or family}={value!r}: {message}" if key else message
