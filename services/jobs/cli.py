"""`sightline jobs`: submit, list, show, watch, cancel and retry jobs, and read their logs."""

from typing import Annotated, Any

import typer

from shared.cli.console import ExitCode, err, fail, out, print_json

app = typer.Typer(help="Submit, list, watch, cancel and retry jobs.", no_args_is_help=True)

JobId = Annotated[str, typer.Argument(help="Id of the job; `last` is the newest.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

_EXIT_CODES = {"succeeded": ExitCode.OK, "failed": ExitCode.FAILURE, "cancelled": ExitCode.CANCELLED}
_COLOURS = {
    "queued": "yellow",
    "running": "cyan",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "magenta",
}


def _call(method: str, path: str, **kwargs: Any) -> Any:
    from shared.cli.client import api_client, call
    from shared.core.settings import CommonSettings

    settings = CommonSettings()
    with api_client(settings, settings.jobs_url) as client:
        return call(client, "jobs", method, path, **kwargs)


def _resolve(job_id: str) -> str:
    if job_id != "last":
        return job_id
    jobs = _call("GET", "/v1/jobs", params={"limit": 1})["jobs"]
    if not jobs:
        fail("there is no job yet", hint="submit one: sightline jobs submit train …", code=ExitCode.NOT_FOUND)
    return str(jobs[0]["id"])


@app.command("list")
def list_jobs(
    state: Annotated[
        str | None, typer.Option(help="queued, running, succeeded, failed or cancelled.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="Only jobs of this kind.")] = None,
    group: Annotated[str | None, typer.Option(help="Only jobs of this group.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="At most so many, the newest.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, the newest first."""
    asked = {"state": state, "kind": kind, "group": group, "limit": limit}
    page = _call("GET", "/v1/jobs", params={key: value for key, value in asked.items() if value is not None})
    if as_json:
        print_json(page)
        return
    from rich.table import Table

    table = Table("job", "kind", "state", "progress", "attempt", "created", "group", box=None)
    for job in page["jobs"]:
        table.add_row(
            job["id"],
            job["kind"],
            f"[{_COLOURS[job['state']]}]{job['state']}[/]",
            _percent(job["progress"]),
            f"{job['attempt']}/{job['max_attempts']}",
            job["created_at"][:19].replace("T", " "),
            job["group"] or "",
        )
    out.print(table)
    if page["next_cursor"]:
        err.print("there are more; give a larger --limit")


@app.command()
def show(job_id: JobId, as_json: AsJson = False) -> None:
    """Show everything about a job."""
    job = _call("GET", f"/v1/jobs/{_resolve(job_id)}")
    if as_json:
        print_json(job)
        return
    from rich.pretty import Pretty
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for key, value in job.items():
        if value is not None:
            table.add_row(key, value if isinstance(value, str) else Pretty(value))
    out.print(table)


@app.command()
def submit(
    kind: Annotated[str, typer.Argument(help="train or export.")],
    params: Annotated[
        list[str] | None,
        typer.Argument(
            help="For train: family=…, recipe=…, and overrides such as data.path=cctv. Else name=value."
        ),
    ] = None,
    params_json: Annotated[str | None, typer.Option(help="The parameters as a JSON object instead.")] = None,
    group: Annotated[str | None, typer.Option(help="Name for jobs that belong together.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(help="Submitting twice with one key makes one job.")
    ] = None,
    watch_it: Annotated[bool, typer.Option("--watch", help="Stay and watch it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Submit a job: `sightline jobs submit train family=person recipe=demo data.path=cctv`."""
    body = {"kind": kind, "params": _params(kind, params or [], params_json), "group": group}
    headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
    job = _call("POST", "/v1/jobs", json=body, headers=headers)
    if watch_it:
        err.print(f"submitted {job['id']}")
        _follow(job["id"], as_json)
    if as_json:
        print_json(job)
    else:
        out.print(job["id"], highlight=False)
        err.print(f"watch it with `sightline jobs watch {job['id']}`", highlight=False)


@app.command()
def watch(job_id: JobId, as_json: AsJson = False) -> None:
    """Watch a job to its end; exit with 0 if it succeeded, 1 if it failed, 6 if it was cancelled."""
    _follow(_resolve(job_id), as_json)


@app.command()
def cancel(job_id: JobId, as_json: AsJson = False) -> None:
    """Cancel a job: at once if it is queued, within about a second if it runs."""
    _changed(_call("POST", f"/v1/jobs/{_resolve(job_id)}/cancel"), as_json)


@app.command()
def retry(job_id: JobId, as_json: AsJson = False) -> None:
    """Queue a failed or cancelled job again; it goes on from its last checkpoint."""
    _changed(_call("POST", f"/v1/jobs/{_resolve(job_id)}/retry"), as_json)


@app.command()
def logs(
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job is over.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON array, or a line each with -f.")
    ] = False,
) -> None:
    """Print the events of a job, a line each."""
    from services.jobs.cli_watch import print_events

    print_events(_resolve(job_id), follow=follow, as_json=as_json)


def _follow(job_id: str, as_json: bool) -> None:
    from services.jobs.cli_watch import follow_job

    try:
        job = follow_job(job_id)
    except KeyboardInterrupt:
        err.print(f"the job goes on; `sightline jobs watch {job_id}` takes it up again", highlight=False)
        raise
    if as_json:
        print_json(job)
    raise typer.Exit(_EXIT_CODES[job["state"]])


def _changed(job: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    asked = " (asked to stop)" if job["state"] == "running" and job["cancel_requested"] else ""
    out.print(f"{job['id']}  {job['state']}{asked}", highlight=False)


def _params(kind: str, words: list[str], params_json: str | None) -> dict[str, Any]:
    """Return the parameters that the words or the JSON text mean; leave the command where they mean none."""
    import orjson

    if params_json is not None:
        try:
            params = orjson.loads(params_json)
        except orjson.JSONDecodeError as error:
            fail(f"--params-json is not JSON: {error}", code=ExitCode.USAGE)
        if not isinstance(params, dict) or words:
            fail("--params-json takes one JSON object and nothing beside it", code=ExitCode.USAGE)
        return params
    params = {}
    overrides = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            fail(f"{word!r} is not of the form name=value", code=ExitCode.USAGE)
        if kind == "train" and name not in ("family", "recipe"):
            overrides.append(word)
        else:
            params[name] = _value(value)
    return params | ({"overrides": overrides} if overrides else {})


def _value(text: str) -> Any:
    """Return true and false as such; everything else is checked, and converted, by the service."""
    return {"true": True, "false": False}.get(text.lower(), text)


def _percent(progress: float | None) -> str:
    return "" if progress is None else f"{progress:.0%}"
