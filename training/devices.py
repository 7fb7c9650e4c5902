"""One run on several devices of this machine: a process for each, and one control for all.

Lightning's `ddp` strategy joins them; starting them here rather than there keeps the command line, the job
worker and tests alike, and lets stops and events pass between the processes.
"""

import multiprocessing
import os
import queue
import signal
import socket
from multiprocessing.context import SpawnContext
from pathlib import Path
from typing import Any

import torch.multiprocessing as mp

from shared.config import RunConfig
from shared.data.splits import Splits
from training.control import RunControl
from training.errors import RunStopped, StopReason, TrainingError
from training.run_folder import RunFolder

_REASONS: tuple[StopReason | None, ...] = (None, "cancel", "shutdown", "lease_lost", "interrupt")
_POLL_S = 0.1
_EVENTS_HELD = 1000


class _Relay:
    """The control inside a rank's process: reads a shared number, writes a shared queue."""

    def __init__(self, context: SpawnContext) -> None:
        self.stop = context.Value("i", 0, lock=False)
        self.events: Any = context.Queue(_EVENTS_HELD)

    def stop_requested(self) -> StopReason | None:
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():
            return "lease_lost"  # another worker may already go on in the same folder
        return _REASONS[self.stop.value]

    def ensure_owned(self) -> None:
        """The process that holds the lease stops the others when it is lost."""

    def report(self, type: str, **data: Any) -> None:  # noqa: A002 - the word of the job events
        self.events.put((type, data))


def fit_on_devices(
    config: RunConfig,
    folder: RunFolder,
    splits: Splits[Any],
    control: RunControl,
    *,
    data_root: Path | None = None,
) -> None:
    """Run `training.engine.fit` in `trainer.devices` processes; raises what the first to fail raised."""
    context = mp.get_context("spawn")
    relay = _Relay(context)
    started = mp.start_processes(
        _rank_main,
        args=(config, folder, splits, relay, _free_port(), data_root),
        nprocs=config.trainer.devices,
        join=False,
        start_method="spawn",
    )
    failure: BaseException | None = None
    try:
        while not started.join(timeout=_POLL_S):
            if reason := control.stop_requested():
                relay.stop.value = _REASONS.index(reason)
            failure = _pass_on(relay, control) or failure
    except mp.ProcessRaisedException as error:
        raise (
            _pass_on(relay, control) or failure or TrainingError(f"a training process failed: {error}")
        ) from None
    except mp.ProcessExitedException as error:
        raise (
            _pass_on(relay, control) or failure or TrainingError(f"a training process died: {error}")
        ) from error
    finally:
        for process in started.processes:
            if process.is_alive():
                process.kill()
    _pass_on(relay, control)


def _pass_on(relay: _Relay, control: RunControl) -> BaseException | None:
    """Hand the waiting events to `control`; return the error among them that says why a rank ended."""
    failure: BaseException | None = None
    while True:
        try:
            kind, data = relay.events.get(timeout=0.01)
        except queue.Empty:
            return failure
        if kind == "failure":
            failure = failure or data["error"]
        else:
            control.report(kind, **data)


def _rank_main(
    rank: int,
    config: RunConfig,
    folder: RunFolder,
    splits: Splits[Any],
    relay: _Relay,
    port: int,
    data_root: Path | None,
) -> None:
    from training.engine import fit

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C comes by way of the relay
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(config.trainer.devices),
        "NODE_RANK": "0",
        "LOCAL_RANK": str(rank),  # tells Lightning that the processes are there already
    }
    if config.trainer.num_threads:
        import torch

        torch.set_num_threads(config.trainer.num_threads)
    try:
        fit(config, folder, splits, relay, rank=rank, data_root=data_root)
    except (TrainingError, RunStopped) as error:
        relay.events.put(("failure", {"error": error}))
        raise


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port
