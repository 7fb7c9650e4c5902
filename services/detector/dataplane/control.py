"""Explicit control over what is loaded, beside following the aliases."""

from dataclasses import dataclass
from typing import Literal

from services.detector.dataplane.problems import LoadFailed
from services.detector.dataplane.registry import ModelRegistry, ServedModel
from services.detector.dataplane.watcher import RepositoryWatcher

State = Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]


@dataclass(frozen=True, slots=True)
class VersionState:
    """One version of one model, as the repository index lists it; `reason` is empty where all is well."""

    name: str
    version: int
    state: State
    reason: str


class ModelControl:
    """What an operator may ask for; every method may block on the disk or on a model that loads."""

    def __init__(self, registry: ModelRegistry, watcher: RepositoryWatcher) -> None:
        self._registry = registry
        self._watcher = watcher

    def load(self, name: str) -> None:
        """Load, warm up and serve what the aliases of `name` mean now, also where it was unloaded.

        Returns once it answers. Raises UnknownModel, Draining, or LoadFailed with what is wrong; in that
        case what was served before goes on.
        """
        self._watcher.load(name)
        model = self._registry.model(name)
        if model.failures:
            raise LoadFailed(f"{name} cannot be loaded: {'; '.join(model.failures.values())}", model=name)
        if not model.serving:
            raise LoadFailed(f"{name} has nothing to load: {model.why_not()}", model=name)

    def unload(self, name: str) -> None:
        """Stop serving `name` until `load` or a restart, whatever its aliases do; requests get ModelNotReady.

        Returns once its requests have been answered and its memory is given back. Raises UnknownModel.
        """
        self._watcher.unload(name)

    def index(self) -> list[VersionState]:
        """Return the state of every version in the repository, by name and number."""
        retired = self._registry.retired()
        return [
            VersionState(name, version, *_state(model, version, (name, version) in retired))
            for name, model in self._registry.models().items()
            for version in sorted({*model.versions, *model.loaded})
        ]


def _state(model: ServedModel, version: int, retired: bool) -> tuple[State, str]:
    if version in model.loaded:
        return "READY", ""
    if model.loading == version:
        return "LOADING", ""
    if retired:
        return "UNLOADING", ""
    if model.unloaded:
        return "UNAVAILABLE", "unloaded"
    aliases = [alias for alias, number in model.aliases.items() if number == version]
    reasons = [model.failures[alias] for alias in aliases if alias in model.failures]
    return "UNAVAILABLE", "; ".join(reasons) or "no alias that this server follows means it"
