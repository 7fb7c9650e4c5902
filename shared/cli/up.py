"""`sightline up`: the whole of Sightline on one machine, with nothing but Python."""

import fcntl
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from shared.cli.console import ExitCode, err, fail, out, print_json
from shared.cli.stack import ProcessSpec, stack
from shared.cli.supervisor import StartFailed, Supervisor
from shared.core.logging import configure_logging
from shared.core.settings import CommonSettings


def up(
    only: Annotated[
        list[str] | None,
        typer.Option(help="Start only these (redis, jobs, export, detector, worker); may be repeated."),
    ] = None,
    within_s: Annotated[float, typer.Option(help="Seconds that each process has to answer.")] = 60.0,
    dry_run: Annotated[bool, typer.Option(help="Print what would be started, and where.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print addresses and process ids as JSON.")] = False,
) -> None:
    """Start the services and a worker, watch them, stop them on Ctrl-C."""
    settings = CommonSettings()
    configure_logging(settings, "up")
    specs = _chosen(settings, only)
    if dry_run:
        _show(specs, {}, settings, as_json)
        return
    stop = threading.Event()
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(sig) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(sig, lambda *_: stop.set())
    with one_per_folder(settings.var_dir), Supervisor(settings.var_dir / "logs") as supervisor:
        try:
            for spec in specs:
                with err.status(f"starting {spec.name} …"):
                    supervisor.start(spec, within_s=within_s, should_stop=stop.is_set)
                if stop.is_set():
                    return
            _show(specs, supervisor.pids, settings, as_json)
            supervisor.watch(stop.is_set)
        except StartFailed as error:
            fail(str(error), hint=f"logs: {settings.var_dir / 'logs'}", code=ExitCode.UNAVAILABLE)
        err.print("stopping …")


def _chosen(settings: CommonSettings, only: list[str] | None) -> list[ProcessSpec]:
    try:
        specs = stack(settings)
    except FileNotFoundError as error:
        fail(str(error), code=ExitCode.UNAVAILABLE)
    names = [spec.name for spec in specs]
    if unknown := set(only or ()) - set(names):
        fail(f"unknown: {', '.join(sorted(unknown))}", hint=f"one of {', '.join(names)}", code=ExitCode.USAGE)
    return [spec for spec in specs if not only or spec.name in only]


@contextmanager
def one_per_folder(var_dir: Path) -> Iterator[None]:
    """Hold the lock of a `var` folder; two stacks over one folder would fight over its files."""
    var_dir.mkdir(parents=True, exist_ok=True)
    with (var_dir / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            fail(
                f"Sightline already runs over {var_dir} (process {lock.read().strip() or '?'})",
                hint="stop it first, or set SIGHTLINE_VAR_DIR to another folder",
                code=ExitCode.UNAVAILABLE,
            )
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _show(specs: list[ProcessSpec], pids: dict[str, int], settings: CommonSettings, as_json: bool) -> None:
    if as_json:
        rows = [{"name": s.name, "url": s.url, "pid": pids.get(s.name), "command": s.command} for s in specs]
        print_json({"var_dir": settings.var_dir, "at": time.time(), "processes": rows})
        return
    table = Table("process", "address", "pid", box=None, pad_edge=False)
    for spec in specs:
        docs = f"{spec.url}/docs" if spec.health_path else spec.url
        table.add_row(spec.name, docs, str(pids.get(spec.name, "")))
    out.print(table)
    err.print(f"everything is written under {settings.var_dir}; Ctrl-C stops it", highlight=False)
