"""The families by name. Entries are import paths, so that asking for a name or a config loads no torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel

from shared.families.family import Family


@dataclass(frozen=True)
class FamilyEntry:
    """A family's task, and where its parts stand, each as "module:attribute"."""

    task: str
    config: str
    family: str


FAMILIES: Mapping[str, FamilyEntry] = MappingProxyType(
    {
        "defects": FamilyEntry(
            task="classification",
            config="shared.families.defects.config:DefectsConfig",
            family="shared.families.defects.family:DEFECTS",
        ),
        "events": FamilyEntry(
            task="stream_detection",
            config="shared.families.events.config:EventsConfig",
            family="shared.families.events.family:EVENTS",
        ),
        "person": FamilyEntry(
            task="detection",
            config="shared.families.person.config:PersonConfig",
            family="shared.families.person.family:PERSON",
        ),
    }
)


class UnknownFamily(KeyError):
    """No family of that name; the message names those there are and the nearest one."""

    def __init__(self, name: str) -> None:
        nearest = get_close_matches(name, FAMILIES, n=1, cutoff=0.5)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        super().__init__(f"no family is called {name!r}{hint} (there are: {', '.join(family_names())})")

    def __str__(self) -> str:  # KeyError shows its argument's repr, quotes and all
        return str(self.args[0])


def family_names() -> list[str]:
    """Every family's name, sorted."""
    return sorted(FAMILIES)


def family_task(name: str) -> str:
    """The family's task, such as "detection", without importing torch. Raises UnknownFamily."""
    return _entry(name).task


def config_class(name: str) -> type[BaseModel]:
    """The family's config class, without importing torch. Raises UnknownFamily."""
    config = _load(_entry(name).config)
    if not (isinstance(config, type) and issubclass(config, BaseModel)):
        raise TypeError(f"{_entry(name).config} is not a pydantic model")
    return config


def recipes_dir(name: str) -> Path:
    """The folder of the family's recipes (<recipe>.yaml), without importing torch. Raises UnknownFamily."""
    package = _entry(name).config.partition(":")[0].rpartition(".")[0]
    return Path(import_module(package).__path__[0]) / "recipes"


def get_family(name: str) -> Family:
    """The family itself; imports torch. Raises UnknownFamily."""
    family = _load(_entry(name).family)
    if not isinstance(family, Family):
        raise TypeError(f"{_entry(name).family} is not a Family")
    return family


def _entry(name: str) -> FamilyEntry:
    if name not in FAMILIES:
        raise UnknownFamily(name)
    return FAMILIES[name]


def _load(path: str) -> object:
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)
