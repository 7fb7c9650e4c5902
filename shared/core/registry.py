"""What a configuration chooses by name. Entries are import paths, so that a list of them loads nothing."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from types import MappingProxyType
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class Entry:
    """What a name stands for.

    target: "module:attribute". summary: one line for those who choose. task: "classification", "detection";
    "" where the entry serves every task. What the target is called with is the registry's to say.
    """

    target: str
    summary: str
    task: str = ""


class UnknownName(ValueError):
    """A registry has no entry of that name; the message names the nearest one and all there are."""

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        nearest = get_close_matches(name.lower(), known, n=1, cutoff=0.5)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        super().__init__(f"no {kind} is called {name!r}{hint} (there are: {', '.join(known) or 'none'})")


class Registry:
    """Entries by name, in the order in which they were written down."""

    def __init__(self, kind: str, entries: Mapping[str, Entry]) -> None:
        self.kind = kind
        self.entries: Mapping[str, Entry] = MappingProxyType(dict(entries))

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def names(self, task: str | None = None) -> list[str]:
        """Every name; with a task, those that serve it."""
        return [name for name, entry in self.entries.items() if task is None or entry.task in ("", task)]

    def entry(self, name: str, task: str | None = None) -> Entry:
        """The entry. Raises UnknownName, also for one that serves another task."""
        if name not in self.names(task):
            raise UnknownName(f"{task} {self.kind}" if task else self.kind, name, self.names(task))
        return self.entries[name]

    def load(self, name: str, task: str | None = None) -> Any:
        """Import and return what the name stands for. Raises UnknownName."""
        module, _, attribute = self.entry(name, task).target.partition(":")
        return getattr(import_module(module), attribute)

    def rows(self) -> list[dict[str, str]]:
        """name, task and summary of every entry, for a list or a document."""
        return [
            {"name": name, "task": entry.task, "summary": entry.summary}
            for name, entry in self.entries.items()
        ]


@dataclass(frozen=True)
class NameIn:
    """Marks a pydantic field as a name in a registry: `architecture: Annotated[str, NameIn(ARCHITECTURES)]`.

    Another name is refused with the nearest one; the field's JSON Schema lists every name (`enum`) with its
    summary (`oneOf` of `const` and `description`), so that a form can be made of it.
    """

    registry: Registry
    task: str | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._known, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        names = self.registry.names(self.task)
        choices = [{"const": name, "description": self.registry.entries[name].summary} for name in names]
        return {**handler(schema), "enum": names, "oneOf": choices}

    def _known(self, name: str) -> str:
        self.registry.entry(name, self.task)
        return name
