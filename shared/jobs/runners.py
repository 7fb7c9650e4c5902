"""The runners of this installation, found by entry points so that nobody has to import them."""

import threading
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points

from shared.config.errors import unknown
from shared.jobs.context import Runner

GROUP = "sightline.jobs"


class NoRunner(LookupError):
    """This worker has no runner for a kind of job."""


class Runners:
    """Runners by kind, each imported when it is first asked for, by one thread at a time."""

    def __init__(self, loaders: Mapping[str, Callable[[], Runner]]) -> None:
        self._loaders = loaders
        self._loading = threading.Lock()

    def find(self, kind: str) -> Runner:
        """Return the runner for `kind`. Raises NoRunner, and whatever its import raises."""
        if kind not in self._loaders:
            raise NoRunner(f"this worker: {unknown('kind of job', kind, self._loaders)}")
        with self._loading:
            return self._loaders[kind]()

    @property
    def kinds(self) -> list[str]:
        return sorted(self._loaders)


def installed_runners() -> Runners:
    """Return the runners that the installed packages announce in the group `sightline.jobs`."""
    return Runners({entry.name: entry.load for entry in entry_points(group=GROUP)})
