"""Acceptance of a running Compose project: train, export and call through it, break it, and look again.

First `docker compose up -d --build --wait`, then `python3 docker/acceptance [--output FILE.json]`.
Needs nothing but Python 3.11 and `docker compose`. It stops, kills and restarts services and leaves one data
set (`acceptance`), its runs and a model of the same name behind, so give it a project that nobody else is
using. Prints a table; the exit status is 1 where a step failed.
"""

import argparse
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from acceptance.journey import Journey
from acceptance.memory import MemoryWatch
from acceptance.outages import Outages
from acceptance.project import Project
from acceptance.stack import Stack
from acceptance.waiting import Step, StepFailed


def all_steps(project: Project, pictures: int, epochs: int) -> Iterator[Step]:
    """Yield the steps in their order; each returns what is worth writing down."""
    stack, memory = Stack(project), MemoryWatch(project)
    journey = Journey(project, memory, pictures, epochs)
    yield from stack.first_steps()
    yield from journey.steps()
    yield from Outages(journey).steps()
    yield from stack.last_steps()
    yield "memory", memory.peaks


def run(steps: Iterable[Step]) -> list[dict[str, Any]]:
    """Run the steps until one fails; each comes back with its outcome, its seconds and its figures."""
    results = []
    for title, step in steps:
        started = time.monotonic()
        try:
            figures, passed = step(), True
        except (StepFailed, subprocess.TimeoutExpired, OSError, http.client.HTTPException) as error:
            figures, passed = {"error": f"{type(error).__name__}: {error}"}, False
        seconds = round(time.monotonic() - started, 1)
        results.append({"step": title, "passed": passed, "seconds": seconds, **figures})
        shown = ", ".join(f"{name} {value}" for name, value in figures.items())
        print(f"{'ok  ' if passed else 'FAIL'}  {seconds:6.1f} s  {title}: {shown}", flush=True)
        if not passed:
            break
    return results


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env-file", type=Path, help="instead of .env")
    parser.add_argument("--project-directory", type=Path, help="where docker-compose.yml lies, if not here")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON")
    parser.add_argument("--pictures", type=int, default=120, help="pictures to train on")
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    options = []
    if arguments.env_file:
        options += ["--env-file", str(arguments.env_file.resolve())]
    if arguments.project_directory:
        options += ["--project-directory", str(arguments.project_directory.resolve())]
    try:
        project = Project(options)
    except (StepFailed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    results = run(all_steps(project, arguments.pictures, arguments.epochs))
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    return 0 if all(result["passed"] for result in results) else 1
