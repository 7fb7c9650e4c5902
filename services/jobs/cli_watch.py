"""How `sightline jobs watch` and `logs` show events as they come."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from shared.cli.client import api_client, explained
from shared.cli.console import err, out, print_json
from shared.core.settings import CommonSettings
from shared.jobs.client import WatchedEvent, watch_job
from shared.jobs.progress import progress_in

_SILENT = frozenset({"at", "progress", "max_epochs", "total_steps"})
_BESIDE_BAR = (
    *("epoch", "max_epochs", "step", "total_steps", "loss", "val_loss"),
    *("ap50", "ap", "macro_f1", "map"),
    "images_per_s",
)


@contextmanager
def _events(job_id: str) -> Iterator[Iterator[WatchedEvent]]:
    settings = CommonSettings()
    with api_client(settings, settings.jobs_url) as client, explained("jobs"):
        yield watch_job(client, job_id, interrupted=_tell_interruption)


def _tell_interruption(reason: str) -> None:
    err.print(f"[dim]interrupted ({escape(reason)}); taking it up again[/]", highlight=False)


def follow_job(job_id: str) -> dict[str, Any]:
    """Show a job's progress on stderr until it is over; return the job."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[figures]}"))
    job: dict[str, Any] = {}
    with _events(job_id) as events, Progress(*columns, TimeElapsedColumn(), console=err) as bar:
        task = bar.add_task("queued", total=1.0, figures="")
        for event in events:
            if event.type == "end":
                job = event.data
                bar.update(task, description=job["state"])
                if job["state"] == "succeeded":
                    bar.update(task, completed=1.0)
            elif event.type == "state":
                bar.update(task, description=_state_words(event.data))
            elif event.type == "log":
                bar.console.print(escape(str(event.data.get("message", ""))), highlight=False)
            else:
                bar.update(task, figures=escape(_few_figures(event.data)), completed=progress_in(event.data))
    _tell_end(job)
    return job


def print_events(job_id: str, *, follow: bool, as_json: bool) -> None:
    """Print what has happened so far, or with `follow` all of it up to the end."""
    collected = []
    with _events(job_id) as events:
        seen_until = None if follow else _last_event_id(job_id)
        for event in events:
            if event.type == "end":
                break
            if as_json and not follow:
                collected.append({"seq": event.seq, "type": event.type, **event.data})
            elif as_json:
                typer.echo(orjson.dumps({"seq": event.seq, "type": event.type, **event.data}))
            else:
                at = str(event.data.get("at", ""))[:19].replace("T", " ")
                out.print(f"{at}  {event.type:<7} {escape(_figures(event.data))}", highlight=False)
            sys.stdout.flush()
            if seen_until is not None and event.seq >= seen_until:
                break
    if as_json and not follow:
        print_json(collected)


def _last_event_id(job_id: str) -> int:
    settings = CommonSettings()
    with api_client(settings, settings.jobs_url) as client:
        response = client.get(f"/v1/jobs/{job_id}")
        response.raise_for_status()
        return int(response.json()["last_event_id"])


def _state_words(data: dict[str, Any]) -> str:
    if data["state"] == "running":
        return f"running, attempt {data['attempt']}"
    return f"{data['state']} ({data['reason']})"


def _figures(data: dict[str, Any]) -> str:
    if "epoch" in data and "max_epochs" in data:
        data = {**data, "epoch": f"{data['epoch']}/{data['max_epochs']}"}
    if "step" in data and "total_steps" in data:
        data = {**data, "step": f"{data['step']}/{data['total_steps']}"}
    return "  ".join(f"{key} {_short(value)}" for key, value in data.items() if key not in _SILENT)


def _few_figures(data: dict[str, Any]) -> str:
    """Return what fits beside a bar: the figures that are followed by eye, or all if none is among them."""
    return _figures({key: data[key] for key in _BESIDE_BAR if key in data} or data)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _tell_end(job: dict[str, Any]) -> None:
    error = job.get("error")
    if job["state"] == "failed" and error:
        err.print(f"[bold red]failed:[/] {escape(str(error.get('message', error)))}", highlight=False)
    elif job["state"] == "succeeded" and job.get("result"):
        result = job["result"]
        plain = {key: value for key, value in result.items() if not isinstance(value, dict | list)}
        metrics = {key: value for key, value in result.get("metrics", {}).items() if key in _BESIDE_BAR}
        err.print(escape(_figures(plain | metrics)), highlight=False)
        err.print(f"all of it: `sightline jobs show {escape(job['id'])}`", highlight=False)
