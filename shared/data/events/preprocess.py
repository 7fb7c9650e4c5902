"""A set of recordings made ready for training, several at once, going on where an earlier run ended."""

import json
import multiprocessing
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from fcntl import LOCK_EX, LOCK_NB, flock
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

from shared.core.files import write_atomic
from shared.data.events.layout import FoundRecording
from shared.data.events.repairs import RecordingUnreadable
from shared.data.events.sequence import SUMMARY, PreprocessSettings, write_sequence
from shared.data.events.workers import interrupts_ignored, worker_pool

SETTINGS_FILE = "preprocess.json"

_Steps = SimpleQueue[tuple[str, int, int] | None]  # recording, windows done, all windows
_steps: _Steps | None = None  # in a worker process: where to say how far it is


class OutputInUse(RuntimeError):
    """Another run is writing to the same folder."""


@dataclass
class PreprocessReport:
    """written, kept: summaries by "split/name"; failed: reasons by "split/name"."""

    written: dict[str, dict[str, Any]] = field(default_factory=dict)
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def sizes(self) -> dict[tuple[int, int], int]:
        """How many sequences there are of each sensor size (height, width)."""
        sizes: dict[tuple[int, int], int] = {}
        for summary in (*self.written.values(), *self.kept.values()):
            size = (summary["sensor"][0], summary["sensor"][1])
            sizes[size] = sizes.get(size, 0) + 1
        return sizes


@dataclass(frozen=True)
class Plan:
    """to_write: recordings to do, with their folders; kept: summaries of those done with these settings."""

    to_write: list[tuple[str, FoundRecording, Path]]
    kept: dict[str, dict[str, Any]]


def plan(recordings: list[FoundRecording], out: Path, settings: PreprocessSettings, *, force: bool) -> Plan:
    """Compare what is to be done with what is there.

    Raises ValueError where `out` was made with other settings, or holds a sequence of other settings, unless
    `force`; such sequences are then done again.
    """
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file")
    earlier = _read(out / SETTINGS_FILE)
    if earlier is not None and earlier != settings.describe() and not force:
        changed = [key for key, value in settings.describe().items() if earlier.get(key) != value]
        raise ValueError(f"{out} was made with other settings ({', '.join(changed)})")
    if earlier is None and out.is_dir() and any(path.name[0] != "." for path in out.iterdir()):
        raise ValueError(f"{out} is not empty and holds something else than preprocessed recordings")
    to_write: list[tuple[str, FoundRecording, Path]] = []
    kept = {}
    for found in recordings:
        name, folder = f"{found.split}/{found.name}", out / found.split / found.name
        summary = _read(folder / SUMMARY)
        if summary is not None and summary.get("settings") == settings.digest():
            kept[name] = summary
        elif folder.exists() and not force:
            raise ValueError(f"{folder} is there, but was not made with these settings")
        else:
            to_write.append((name, found, folder))
    return Plan(to_write, kept)


def preprocess(
    planned: Plan,
    out: Path,
    settings: PreprocessSettings,
    *,
    workers: int,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> PreprocessReport:
    """Write what is planned, `workers` recordings at once; a recording that cannot be used stops no other.

    `on_progress` is called from another thread with a recording's name, its windows done and all of them.
    Every sequence appears in one step; when a run is broken off, the next one goes on with those that miss.
    Raises OutputInUse where another run writes to `out`.
    """
    report = PreprocessReport(kept=dict(planned.kept))
    out.mkdir(parents=True, exist_ok=True)
    with _locked(out):
        _remove_leftovers(out)
        write_atomic(out / SETTINGS_FILE, json.dumps(settings.describe(), indent=2) + "\n")
        for name, result in _results(planned, settings, workers, on_progress):
            if isinstance(result, str):
                report.failed[name] = result
            else:
                report.written[name] = result
    return report


def _results(
    planned: Plan,
    settings: PreprocessSettings,
    workers: int,
    on_progress: Callable[[str, int, int], None] | None,
) -> Iterator[tuple[str, dict[str, Any] | str]]:
    steps: _Steps = multiprocessing.get_context("spawn").SimpleQueue()
    follower = threading.Thread(target=_follow, args=(steps, on_progress), daemon=True)
    follower.start()
    try:
        with worker_pool(max(1, min(workers, len(planned.to_write))), _report_to, (steps,)) as pool:
            with interrupts_ignored():
                futures = {
                    pool.submit(_write_one, name, found, folder, settings): name
                    for name, found, folder in planned.to_write
                }
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                except BrokenProcessPool:
                    yield (
                        futures[future],
                        "its process was killed, perhaps for want of memory; use fewer --workers",
                    )
    finally:
        steps.put(None)
        follower.join()


def _report_to(steps: "_Steps") -> None:
    global _steps
    _steps = steps


def _write_one(
    name: str, found: FoundRecording, folder: Path, settings: PreprocessSettings
) -> dict[str, Any] | str:
    def report(done: int, total: int) -> None:
        if _steps is not None and (done == total or done % 20 == 0):
            _steps.put((name, done, total))

    try:
        if folder.exists():  # of other settings; the command was told to replace it
            shutil.rmtree(folder)
        return write_sequence(found, folder, settings, report)
    except RecordingUnreadable as error:
        return str(error)
    except OSError as error:
        return f"{folder} cannot be written: {error}"


def _follow(steps: "_Steps", on_progress: Callable[[str, int, int], None] | None) -> None:
    while (step := steps.get()) is not None:
        if on_progress:
            on_progress(*step)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    return document if isinstance(document, dict) else None


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    with (out / ".lock").open("w") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError as error:
            raise OutputInUse(f"another run is writing to {out}") from error
        yield


def _remove_leftovers(out: Path) -> None:
    """Remove what a killed run left: folders that never got their names."""
    for split in out.iterdir():
        if split.is_dir():
            for leftover in split.glob(".*"):
                shutil.rmtree(leftover)
