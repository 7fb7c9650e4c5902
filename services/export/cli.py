"""`sightline export`: turn a run into a version of the model repository."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from shared.cli.console import ExitCode, err, fail, out, print_json

_TITLES = {
    "load": "reading run and data",
    "trace": "tracing the network",
    "calibrate": "measuring activations",
    "compare": "comparing with PyTorch",
    "publish": "publishing",
}
# What a parity report was made on, by task; what it counts there, and what that is called.
_JUDGED = ("pictures", "recordings")
_COUNTED = {"windows": "windows", "objects": "objects", "labels_present": "labels present"}


def export(
    run: Annotated[str, typer.Argument(help="Id of a run, or the path of its folder.")],
    precision: Annotated[
        Literal["fp32", "fp16", "int8"], typer.Option(help="int8 is calibrated on training images.")
    ] = "fp32",
    name: Annotated[str | None, typer.Option(help="Model in the repository; default: the family.")] = None,
    end_to_end: Annotated[
        bool, typer.Option("--end-to-end", help="Put non-maximum suppression inside the graph.")
    ] = False,
    promote: Annotated[bool, typer.Option(help="Make the new version live.")] = True,
    submit: Annotated[
        bool, typer.Option("--submit", help="Hand it to the export service instead of doing it here.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Export a run to ONNX and, if the file does what the network does, publish it as the next version.

    The gate compares ONNX Runtime with PyTorch on the run's held-out pictures; what fails is refused with
    the number that failed (exit code 5).
    """
    from services.export.problems import IncompleteRun, UnknownRun
    from shared.core.settings import CommonSettings

    settings = CommonSettings()
    try:
        path = _run_folder(run, settings)
        name = name or _family(path)
        if submit:
            params = {
                "run_id": path.name,
                "name": name,
                "precision": precision,
                "end_to_end": end_to_end,
                "promote": promote,
            }
            _submit(settings, params, as_json)
        else:
            _export_here(settings, path, name, precision, end_to_end, promote, as_json)
    except UnknownRun as problem:
        fail(problem.detail, hint="`sightline train` makes runs", code=ExitCode.NOT_FOUND)
    except IncompleteRun as problem:
        fail(problem.detail)


def _run_folder(run: str, settings: Any) -> Path:
    from services.export.runs import CONFIG, find_run

    given = Path(run)
    if (given / CONFIG).is_file():
        return given.resolve()
    return find_run(settings.runs_root, run)


def _family(path: Path) -> str:
    from services.export.runs import read_run

    return read_run(path).config.family


def _submit(settings: Any, params: dict[str, Any], as_json: bool) -> None:
    from shared.cli.client import api_client, call

    with api_client(settings, settings.export_url) as client:
        job = call(client, "export", "POST", "/v1/exports", json=params)
    if as_json:
        print_json(job)
    else:
        out.print(f"submitted {job['id']}")
        err.print(f"watch it with `sightline jobs watch {job['id']}`")


def _export_here(
    settings: Any,
    path: Path,
    name: str,
    precision: Literal["fp32", "fp16", "int8"],
    end_to_end: bool,
    promote: bool,
    as_json: bool,
) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from services.export.runs import read_run
    from shared.core.problems import Problem

    with err.status("loading PyTorch"):
        from services.export.pipeline import ExportRequest, export_run
        from services.export.problems import GateRefused, IncompleteRun
        from shared.repository.repository import ModelRepository

    request = ExportRequest(read_run(path), name, precision, end_to_end, promote)
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as progress:
        tasks: dict[str, Any] = {}

        def on_step(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = progress.add_task(_TITLES[step])
            progress.update(tasks[step], completed=done, total=total)

        try:
            result = export_run(
                request, ModelRepository(settings.repository_root), settings.data_root, on_step
            )
        except GateRefused as refusal:
            progress.stop()
            _refused(refusal.detail, refusal.report, as_json)
        except IncompleteRun:
            raise
        except Problem as problem:
            progress.stop()
            fail(problem.detail, code=ExitCode.USAGE if problem.status == 422 else ExitCode.FAILURE)
        except OSError as error:
            progress.stop()
            fail(f"the version could not be written: {error}", hint="nothing of it was published")
    if as_json:
        print_json(result.as_json())
        return
    _show_gate(result.parity)
    live = "live" if promote else f"not live; `sightline models promote {name} {result.version}` makes it so"
    out.print(f"{name} version {result.version} ({precision}), {live}: {result.path}", soft_wrap=True)


def _refused(detail: str, report: dict[str, object], as_json: bool) -> None:
    if as_json:
        print_json({"refused": detail, "parity": report})
    else:
        _show_gate(report)
    fail(
        f"the gate refused the export: {detail}",
        hint="nothing was published; try another --precision, or train longer",
        code=ExitCode.REFUSED,
    )


def _show_gate(report: dict[str, Any]) -> None:
    from rich.table import Table

    unit = next(unit for unit in _JUDGED if unit in report)
    title = f"gate: {report['precision']} on {report[unit]} of {report[f'{unit}_available']} held-out {unit}"
    held = ", ".join(f"{report[count]} {what}" for count, what in _COUNTED.items() if count in report)
    table = Table("check", "measured", "bound", "", title=f"{title}, {held}")
    for check in report["checks"]:
        bound = "–" if check["bound"] is None else f"{check['bound']:.6g} {check['unit']}".rstrip()
        verdict = "[green]passed[/]" if check["passed"] else "[red]failed[/]"
        measured = f"{check['measured']:.3g} {check['unit']}".rstrip()
        table.add_row(check["name"], measured, bound, verdict if check["bound"] is not None else "")
    out.print(table)
    for note in report["notes"]:
        err.print(f"note: {note}")
