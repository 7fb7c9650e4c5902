"""The runs that a sweep consists of."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson

from shared.config import ConfigError, compose_run, unknown


@dataclass(frozen=True)
class Point:
    """One run: `values` are the swept settings by key, as text; `overrides` hold them and the fixed ones."""

    values: dict[str, str]
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Sweep:
    """A name for the group of jobs, and what all of its runs have in common."""

    name: str
    family: str
    recipe: str

    def params(self, point: Point) -> dict[str, Any]:
        """Return the parameters of the point's training job."""
        return {"family": self.family, "recipe": self.recipe, "overrides": list(point.overrides)}

    def idempotency_key(self, point: Point) -> str:
        """Return the key under which the point is submitted once, however often the sweep is started."""
        described = orjson.dumps([self.name, self.params(point)], option=orjson.OPT_SORT_KEYS)
        return f"sweep-{hashlib.sha256(described).hexdigest()[:40]}"


def named_grids(family: str) -> dict[str, Path]:
    """Return the grids that a family comes with, by name."""
    from shared.families.registry import recipes_dir

    return {path.stem: path for path in sorted((recipes_dir(family).parent / "sweeps").glob("*.yaml"))}


@dataclass(frozen=True)
class NamedGrid:
    """A grid that a family comes with: values by axis, and overrides that hold for all of it.

    An axis is a key of the run, or a name of its own whose values are in `variants`: by axis and value, the
    overrides that make it. `recipe`: what the grid is made for, where it says so.
    """

    values: dict[str, list[str]]
    overrides: list[str]
    variants: dict[str, dict[str, list[str]]]
    recipe: str | None


def load_named_grid(family: str, name: str) -> NamedGrid:
    """Read a named grid. Raises ConfigError where there is none of that name."""
    import yaml

    grids = named_grids(family)
    if name not in grids:
        raise ConfigError(unknown(f"sweep of {family!r}", name, grids))
    content = yaml.safe_load(grids[name].read_text())
    return NamedGrid(
        {axis: [str(value) for value in values] for axis, values in content["grid"].items()},
        content.get("overrides", []),
        {axis: values for axis, values in content["grid"].items() if isinstance(values, dict)},
        content.get("recipe"),
    )


def parse_axis(text: str) -> tuple[str, list[str]]:
    """Turn `model.grid_size=13,26` into the key and its values. Raises ConfigError."""
    key, separator, values = text.partition("=")
    parsed = [value.strip() for value in values.split(",")]
    if not separator or not key or not all(parsed):
        raise ConfigError(f"--grid {text!r} is not of the form key=value,value")
    return key, parsed


def grid_points(
    grid: dict[str, list[str]],
    fixed: Sequence[str],
    variants: Mapping[str, Mapping[str, Sequence[str]]] = MappingProxyType({}),
) -> list[Point]:
    """Return every combination of the grid's values, the last key varying fastest."""
    combinations = itertools.product(*grid.values())
    return [make_point(dict(zip(grid, values, strict=True)), fixed, variants) for values in combinations]


def make_point(
    values: dict[str, str],
    fixed: Sequence[str],
    variants: Mapping[str, Mapping[str, Sequence[str]]] = MappingProxyType({}),
) -> Point:
    """Return the point with these swept values; they come after the fixed overrides, so they win.

    Raises ConfigError for a value that an axis of `variants` does not have.
    """
    swept = [
        override
        for key, value in values.items()
        for override in (_variant(key, value, variants[key]) if key in variants else [f"{key}={value}"])
    ]
    return Point(values, (*fixed, *swept))


def _variant(axis: str, value: str, known: Mapping[str, Sequence[str]]) -> Sequence[str]:
    if value not in known:
        raise ConfigError(unknown(f"{axis} of this grid", value, known))
    return known[value]


def check_points(sweep: Sweep, points: Sequence[Point]) -> None:
    """Compose every run; raises ConfigError before anything is submitted."""
    for point in points:
        compose_run(sweep.family, sweep.recipe, point.overrides)


def default_name(prefix: str, description: Any) -> str:
    """Return a name that the same sweep always gets."""
    digest = hashlib.sha256(orjson.dumps(description, option=orjson.OPT_SORT_KEYS)).hexdigest()[:8]
    return f"{prefix}-{digest}"
