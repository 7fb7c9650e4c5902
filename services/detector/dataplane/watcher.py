"""Follows the repository: loads what its aliases name, and unloads what they no longer do.

One thread does all loading. A new version is verified, loaded and warm before an alias changes over to it; a
version that cannot be loaded changes nothing but what is reported.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from services.detector.dataplane.loading import VersionLoader
from services.detector.dataplane.memory import give_back_memory
from services.detector.dataplane.problems import Draining
from services.detector.dataplane.registry import LoadedVersion, ModelRegistry
from services.detector.dataplane.session import UnusableGraph
from services.detector.metrics import DetectorMetrics
from shared.core.logging import get_logger
from shared.core.problems import Problem
from shared.repository import ModelRepository
from shared.repository.triton_config_reader import ConfigSyntaxError

logger = get_logger(__name__)

_UNLOAD_TIMEOUT_S = 60.0
REPOSITORY = "repository"  # key of a failure that belongs to no alias

_Signature = tuple[tuple[int, int, int] | None, ...]


@dataclass(slots=True)
class _Retry:
    version: int
    at: float  # time.monotonic()
    wait_s: float


class RepositoryWatcher:
    """Keeps a registry equal to a repository's aliases; `start` it once, `stop` it once."""

    def __init__(
        self,
        repository: ModelRepository,
        registry: ModelRegistry,
        loader: VersionLoader,
        metrics: DetectorMetrics,
        *,
        aliases: list[str],
        poll_interval_s: float,
        retry_max_s: float,
        end_streams: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`end_streams` asks for an end of a model's streams, which would hold its versions for ever."""
        self._repository = repository
        self._registry = registry
        self._loader = loader
        self._metrics = metrics
        self._aliases = aliases
        self._poll_interval_s = poll_interval_s
        self._retry_max_s = retry_max_s
        self._end_streams = end_streams
        self._seen: dict[str, _Signature] = {}
        self._retries: dict[str, dict[str, _Retry]] = {}  # model, alias
        self._unloaded: set[str] = set()  # models that an operator wants away
        self._acting = threading.RLock()  # whoever loads or unloads: the watcher's thread or an operator's
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="repository-watcher", daemon=True)
        self.scanned = False  # whether every model has been tried once
        self.problem: str | None = None  # why the repository itself cannot be read

    def start(self) -> None:
        """Begin to load and to follow, in a thread of its own."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Stop following, then unload every version; queued pictures get `timeout_s` to finish."""
        self._stopping.set()
        until = time.monotonic() + timeout_s
        self._thread.join(timeout_s)
        # An operator may still be loading: that ends first, as far as the time allows.
        has_turn = self._acting.acquire(timeout=max(0.0, until - time.monotonic()))
        try:
            for loaded in self._registry.close():
                self._unload(loaded, max(0.0, until - time.monotonic()))
        finally:
            if has_turn:
                self._acting.release()

    def _watch(self) -> None:
        while not self._stopping.is_set():
            try:
                self.scan()
                self.problem = None
            except Exception as error:  # the next look may go better, and what is loaded stays
                if self.problem is None:
                    logger.exception("repository cannot be read", root=str(self._repository.root))
                self.problem = f"repository {self._repository.root} cannot be read: {error}"
            self.scanned = True
            self._stopping.wait(self._poll_interval_s)

    def load(self, name: str) -> None:
        """Look at one model now, also at one that was unloaded or that failed a moment ago.

        Raises UnknownModel where the repository has none of that name, and Draining once it was stopped.
        """
        with self._acting:
            if self._stopping.is_set():
                raise Draining("the server is stopping; ask another one")
            if name in self._repository.models():
                self._unloaded.discard(name)
                self._seen.pop(name, None)
                self._retries.pop(name, None)
                self._look_at(name)
            self._registry.hold(name, False)
            self._unload_unused()

    def unload(self, name: str) -> None:
        """Stop serving one model until `load`; returns when its last request is answered, or after a while.

        Raises UnknownModel.
        """
        with self._acting:
            self._registry.hold(name, True)
            self._unloaded.add(name)
            self._retries.pop(name, None)
            self._registry.serve(name, {})
            self._end_streams(name)
            self._registry.note_failure(name, {})
            self._metrics.live(name, None)
            logger.info("model unloaded on demand", model=name)
            until = time.monotonic() + _UNLOAD_TIMEOUT_S
            while time.monotonic() < until and not self._stopping.is_set():
                self._unload_unused()
                if not any(retired == name for retired, _ in self._registry.retired()):
                    return
                self._stopping.wait(0.01)

    def scan(self) -> None:
        """Look at the repository once and act on what has changed."""
        with self._acting:
            self._scan()

    def _scan(self) -> None:
        names = self._repository.models()
        # Looked at after the list was made, which is empty or incomplete if the folder went meanwhile.
        if self._seen and not self._repository.root.is_dir():
            raise FileNotFoundError("the folder is not there any more")  # a lost mount is no order to unload
        for name in names:
            if self._stopping.is_set():
                return
            self._look_at(name)
        for name in set(self._seen) - set(names):
            self._seen.pop(name)
            self._retries.pop(name, None)
            self._unloaded.discard(name)
            self._registry.remove(name)
            self._end_streams(name)
            self._metrics.live(name, None)
            logger.info("model left the repository", model=name)
        self._unload_unused()

    def _unload_unused(self) -> None:
        unused = self._registry.take_unused()
        if not unused:
            return
        while unused:
            loaded = unused.pop()
            self._unload(loaded, _UNLOAD_TIMEOUT_S)
            self._registry.forget(loaded)
            del loaded  # the last reference: what it held is free before it is given back
        give_back_memory()

    def _look_at(self, name: str) -> None:
        """Follow one model; what is wrong with it is reported and stops no other model."""
        # The stat comes before the read: a change between the two is then seen in the next round.
        signature = self._signature(name)
        due = any(retry.at <= time.monotonic() for retry in self._retries.get(name, {}).values())
        if name in self._seen and self._seen[name] == signature and not due:
            return
        try:
            versions, aliases = self._repository.versions(name), self._repository.aliases(name)
        except (Problem, OSError) as error:  # unreadable for now: what is loaded goes on
            self._seen[name] = signature
            self._registry.note_failure(name, {REPOSITORY: f"aliases cannot be read: {error}"})
            self._report(name, REPOSITORY, 0, error)
            return
        self._seen[name] = signature
        self._registry.update(name, versions, aliases)
        if name in self._unloaded:
            return
        self._follow(name, {alias: aliases[alias] for alias in self._aliases if alias in aliases})

    def _follow(self, name: str, wanted: dict[str, int]) -> None:
        """Load the versions in `wanted` (by alias), then change over to those that can be served."""
        before = self._registry.model(name)
        serving = dict(before.serving)
        failures: dict[str, str] = {}
        available = set(before.loaded)
        for alias, version in wanted.items():
            if version not in available:
                failure = self._load(name, alias, version)
                if failure is not None:
                    failures[alias] = failure
                    continue
                available.add(version)
            serving[alias] = version
        # An alias that was taken away stops being served; one that moved to a broken version does not.
        serving = {alias: version for alias, version in serving.items() if alias in wanted}
        retries = self._retries.get(name, {})
        self._retries[name] = {alias: retry for alias, retry in retries.items() if alias in failures}
        self._registry.note_failure(name, failures)
        self._registry.serve(name, serving)
        if serving != before.serving:
            logger.info("aliases changed over", model=name, serving=serving)
        self._metrics.live(name, serving.get(self._aliases[0]))

    def _load(self, name: str, alias: str, version: int) -> str | None:
        """Load a version into the registry; returns what went wrong, None if nothing did."""
        retry = self._retries.get(name, {}).get(alias)
        if retry is not None and retry.version == version and retry.at > time.monotonic():
            return self._registry.model(name).failures.get(alias, f"version {version} could not be loaded")
        self._registry.begin_loading(name, version)
        loaded: LoadedVersion | None = None
        try:
            loaded = self._loader.load(name, version)
        except Exception as error:  # noqa: BLE001 - a broken version must never stop the watcher
            self._report(name, alias, version, error)
            return f"version {version} ({alias}) cannot be loaded: {error}"
        finally:
            self._registry.finish_loading(name, loaded)
        logger.info("version loaded", model=name, version=version, provider=loaded.session.provider)
        return None

    def _report(self, name: str, key: str, version: int, error: Exception) -> None:
        """Count and log a failed attempt, and plan the next one."""
        reason = _reason(error)
        self._metrics.load_failed(name, version, reason)
        logger.error(
            "model cannot be followed",
            model=name,
            version=version,
            reason=reason,
            error=str(error),
            retry_in_s=self._postpone(name, key, version),
            exc_info=error if reason == "error" else None,  # only what nobody foresaw needs its traceback
        )

    def _postpone(self, name: str, key: str, version: int) -> float:
        """Plan the next attempt, each twice as far away as the one before; returns the wait in seconds."""
        retries = self._retries.setdefault(name, {})
        before = retries.get(key)
        wait_s = before.wait_s * 2 if before and before.version == version else 1.0
        wait_s = min(self._retry_max_s, wait_s)
        retries[key] = _Retry(version, time.monotonic() + wait_s, wait_s)
        return wait_s

    def _unload(self, loaded: LoadedVersion, timeout_s: float) -> None:
        ended = self._loader.unload(loaded, timeout_s)
        log = logger.info if ended else logger.error
        log("version unloaded", model=loaded.name, version=loaded.version, threads_ended=ended)

    def _signature(self, name: str) -> _Signature:
        """Return what changes when a model's aliases or its list of versions do; costs two stats."""
        aliases = self._repository.aliases_path(name)
        return (_stamp(aliases), _stamp(aliases.parent))


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return (found.st_mtime_ns, found.st_ino, found.st_size)


def _reason(error: Exception) -> str:
    """Return a metric label for why a version could not be loaded; a small fixed set."""
    if isinstance(error, Problem):
        return error.code
    if isinstance(error, UnusableGraph):
        return "unusable_graph"
    if isinstance(error, ConfigSyntaxError):
        return "unusable_config"
    return "io" if isinstance(error, OSError) else "error"
