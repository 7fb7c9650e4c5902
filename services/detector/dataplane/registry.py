"""The versions that are loaded, which of them each alias means, and who still uses them."""

import contextlib
import difflib
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from services.detector.dataplane.batching import Batcher
from services.detector.dataplane.problems import Draining, ModelNotReady, VersionNotLoaded
from services.detector.dataplane.session import Session
from services.detector.dataplane.statistics import Statistics
from services.detector.dataplane.tasks.task import Task
from services.detector.metrics import VersionMetrics
from shared.repository.manifest import Manifest
from shared.repository.problems import UnknownModel, UnknownVersion


@dataclass(eq=False, slots=True)
class LoadedVersion:
    """One version, warm and able to answer."""

    manifest: Manifest
    session: Session
    task: Task
    batcher: Batcher
    metrics: VersionMetrics
    users: int = 0  # requests that hold it; guarded by the registry's lock

    @property
    def statistics(self) -> Statistics:
        return self.batcher.statistics

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> int:
        return self.manifest.version


@dataclass(slots=True)
class ServedModel:
    """What is known of one model of the repository."""

    versions: tuple[int, ...] = ()  # on disk
    aliases: dict[str, int] = field(default_factory=dict)  # as the repository has them
    serving: dict[str, int] = field(default_factory=dict)  # alias to loaded version, which may lag behind
    loaded: dict[int, LoadedVersion] = field(default_factory=dict)
    loading: int | None = None
    failures: dict[str, str] = field(default_factory=dict)  # alias, or "repository", to what is wrong
    unloaded: bool = False  # by an operator, until it is loaded again

    def why_not(self) -> str:
        """Return why no version answers."""
        if self.loading is not None:
            return f"version {self.loading} is being loaded"
        if self.failures:
            return "; ".join(self.failures.values())
        if self.unloaded:
            return "it was unloaded; load it again"
        return "no alias says which one is live; promote one with `sightline models promote`"


class ModelRegistry:
    """What requests look into and the watcher writes; every method is short and may come from any thread."""

    def __init__(self, default_alias: str) -> None:
        self._default_alias = default_alias
        self._models: dict[str, ServedModel] = {}
        self._retired: list[LoadedVersion] = []
        self._closing: list[LoadedVersion] = []
        self._lock = threading.Lock()
        self._closed = False

    # For requests

    @contextlib.contextmanager
    def lease(self, name: str, version: str | None = None) -> Iterator[LoadedVersion]:
        """Hold a loaded version for one request; it is not unloaded meanwhile, whatever the aliases do.

        `version` is a number, an alias, or None for the default alias. Raises UnknownModel, UnknownVersion,
        VersionNotLoaded, ModelNotReady or Draining.
        """
        with self._lock:
            loaded = self._find(name, version)
            loaded.users += 1
        try:
            yield loaded
        finally:
            with self._lock:
                loaded.users -= 1

    def models(self) -> dict[str, ServedModel]:
        """Return a copy of what is known of every model."""
        with self._lock:
            return {name: _copy(model) for name, model in sorted(self._models.items())}

    def model(self, name: str) -> ServedModel:
        """Return a copy of what is known of one model; raises UnknownModel with the nearest name."""
        with self._lock:
            return _copy(self._known(name))

    def _find(self, name: str, version: str | None) -> LoadedVersion:
        if self._closed:
            raise Draining("the server is stopping; send this again to another one")
        model = self._known(name)
        if version is None or version in model.serving:
            number = model.serving.get(version or self._default_alias)
            if number is None:
                raise ModelNotReady(f"{name} has no version that can answer: {model.why_not()}", model=name)
            return model.loaded[number]
        target = model.aliases.get(version, _number(version))
        if target in model.loaded:
            return model.loaded[target]
        if target not in model.versions:
            raise _unknown_version(name, version, model)
        if model.loading == target:
            raise ModelNotReady(f"version {target} of {name} is being loaded", model=name)
        raise _not_loaded(name, target, model)

    def _known(self, name: str) -> ServedModel:
        model = self._models.get(name)
        if model is None:
            raise UnknownModel(f"no model is called {name!r}{_nearest(name, self._models)}", model=name)
        return model

    # For the watcher

    def update(self, name: str, versions: Iterable[int], aliases: dict[str, int]) -> None:
        """Note what the repository says of a model now."""
        with self._lock:
            model = self._models.setdefault(name, ServedModel())
            model.versions, model.aliases = tuple(versions), dict(aliases)

    def begin_loading(self, name: str, version: int) -> None:
        """Note that a version is being loaded."""
        with self._lock:
            self._models[name].loading = version

    def finish_loading(self, name: str, loaded: LoadedVersion | None) -> None:
        """Note that loading has ended, with a version or without."""
        with self._lock:
            model = self._models[name]
            model.loading = None
            if loaded is not None:
                model.loaded[loaded.version] = loaded

    def serve(self, name: str, serving: dict[str, int]) -> None:
        """Let each alias mean a loaded version, all in one step; versions no alias means are retired."""
        with self._lock:
            model = self._models[name]
            model.serving = dict(serving)
            for version in set(model.loaded) - set(serving.values()):
                self._retired.append(model.loaded.pop(version))

    def hold(self, name: str, unloaded: bool) -> None:
        """Note whether an operator has unloaded a model; raises UnknownModel."""
        with self._lock:
            self._known(name).unloaded = unloaded

    def note_failure(self, name: str, failures: dict[str, str]) -> None:
        """Replace what is known to be wrong with a model."""
        with self._lock:
            self._models.setdefault(name, ServedModel()).failures = dict(failures)

    def remove(self, name: str) -> None:
        """Forget a model that has left the repository; its versions are retired."""
        with self._lock:
            self._retired.extend(self._models.pop(name).loaded.values())

    def retired(self) -> set[tuple[str, int]]:
        """Return name and number of the versions that only wait for their last request or their end."""
        with self._lock:
            return {(loaded.name, loaded.version) for loaded in [*self._retired, *self._closing]}

    def take_unused(self) -> list[LoadedVersion]:
        """Return the retired versions that no request holds any more; they are the caller's to close."""
        with self._lock:
            unused = [loaded for loaded in self._retired if loaded.users == 0]
            self._retired = [loaded for loaded in self._retired if loaded.users > 0]
            self._closing += unused
            return unused

    def forget(self, loaded: LoadedVersion) -> None:
        """Note that a version from `take_unused` has been closed."""
        with self._lock:
            self._closing.remove(loaded)

    def close(self) -> list[LoadedVersion]:
        """Refuse requests from now on and return every version there is, to be closed by the caller."""
        with self._lock:
            self._closed = True
            everything = self._retired + [
                loaded for model in self._models.values() for loaded in model.loaded.values()
            ]
            self._retired, self._models = [], {}
            return everything


def _copy(model: ServedModel) -> ServedModel:
    return ServedModel(
        model.versions,
        dict(model.aliases),
        dict(model.serving),
        dict(model.loaded),
        model.loading,
        dict(model.failures),
        model.unloaded,
    )


def _number(version: str) -> int:
    return int(version) if version.isascii() and version.isdecimal() and len(version) < 10 else -1


def _nearest(name: str, names: Iterable[str]) -> str:
    known = sorted(names)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; there are: {', '.join(known)}" if known else "; the repository is empty"


def _unknown_version(name: str, version: str, model: ServedModel) -> UnknownVersion:
    named = [*map(str, model.versions), *sorted(model.aliases)]
    near = difflib.get_close_matches(version, named, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else ""
    return UnknownVersion(
        f"{name} has no version {version!r}; there are: {', '.join(named) or 'none'}{hint}",
        model=name,
        version=version,
    )


def _not_loaded(name: str, version: int, model: ServedModel) -> VersionNotLoaded:
    loaded = ", ".join(map(str, sorted(model.loaded))) or "none"
    failures = "".join(f". {failure}" for failure in model.failures.values())
    return VersionNotLoaded(
        f"version {version} of {name} is in the repository and not loaded; loaded: {loaded}. Give it "
        f"an alias that this server keeps loaded (SIGHTLINE_DETECTOR_ALIASES){failures}",
        model=name,
        version=version,
    )
