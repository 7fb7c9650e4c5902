"""A worker with a runner for tests: `python tests/jobs/worker_process.py`, settings from the environment.

The kind `steps` writes a line for each step to `steps.txt` in its run folder and goes on from what is there,
as training goes on from a checkpoint.
"""

import sys
import time
from typing import Any

from shared.core.logging import configure_logging
from shared.core.settings import CommonSettings
from shared.jobs.context import JobCancelled, JobContext, JobRefused, JobReleased
from shared.jobs.runners import Runners
from shared.jobs.settings import QueueSettings
from training.worker import Worker, WorkerSettings


def steps(context: JobContext) -> dict[str, Any]:
    context.run_dir.mkdir(parents=True, exist_ok=True)
    record = context.run_dir / "steps.txt"
    done = len(record.read_text().splitlines()) if record.exists() else 0
    total = context.params["steps"]
    for step in range(done, total):
        if (ending := context.params.get("raise")) is not None:
            raise {"refused": JobRefused("no such data", rows=0), "error": ValueError("boom")}[ending]
        time.sleep(context.params.get("step_s", 0.05))
        context.ensure_lease()
        with record.open("a") as file:
            file.write(f"{context.attempt} {step}\n")
        context.report("step", step=step + 1, total_steps=total, progress=(step + 1) / total)
        if not context.params.get("deaf"):
            stop(context)
    return {"steps": total, "attempt": context.attempt}


def stop(context: JobContext) -> None:
    match context.stop_requested():
        case "cancel":
            raise JobCancelled
        case "shutdown" | "lease_lost":
            raise JobReleased


def main() -> None:
    settings = CommonSettings()
    configure_logging(settings, "worker")
    runners = Runners({"steps": lambda: steps})
    sys.exit(Worker(settings, WorkerSettings(), QueueSettings(), runners).run())


if __name__ == "__main__":
    main()
