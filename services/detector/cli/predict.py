"""`sightline predict`: what a model says of pictures, videos and recordings, run here or by a server."""

import math
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.cli.console import ExitCode, err, fail

if TYPE_CHECKING:
    from services.detector.cli.annotate import Wanted
    from services.detector.cli.choose import Annotator, ModelChoice
    from services.detector.cli.report import RunReport
    from services.detector.cli.sources import Source


class OutputFormat(StrEnum):
    """What is written for each source."""

    PICTURES = "pictures"
    JSON = "json"
    BOTH = "both"


def predict(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Pictures, videos (mp4, avi, mov, mkv), recordings of event cameras (dat, raw, h5, hdf5), "
            "folders or quoted globs."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="Model, as NAME, NAME:VERSION or NAME:ALIAS; alone: the live one."
        ),
    ] = "person",
    server: Annotated[
        str | None,
        typer.Option(
            help="Address of a running detector, such as http://127.0.0.1:8100. "
            "Without it the model is run here, from the repository."
        ),
    ] = None,
    repository: Annotated[
        Path | None,
        typer.Option(help="Model repository. Default: SIGHTLINE_REPOSITORY_ROOT, or var/repository."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the results. Default: a new var/predictions/predict…"),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Write into --out even if it is not empty; same names are replaced."),
    ] = False,
    format_: Annotated[
        OutputFormat, typer.Option("--format", help="Annotated pictures and videos, JSON, or both.")
    ] = OutputFormat.BOTH,
    score_threshold: Annotated[
        float | None,
        typer.Option(
            help="Least score of a box, or probability of a label, 0 to 1. Default: the model's own."
        ),
    ] = None,
    iou_threshold: Annotated[
        float | None,
        typer.Option(help="IoU above which the weaker box goes, 0 to 1. Default: the model's own."),
    ] = None,
    max_detections: Annotated[
        int | None, typer.Option(min=1, help="Most detections per picture. Default: the model's own.")
    ] = None,
    heatmap: Annotated[
        bool,
        typer.Option(
            "--heatmap", help="Classification: lay the heat of the strongest label present over it."
        ),
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Look into the subfolders of folders too.")
    ] = False,
    sensor: Annotated[
        str | None,
        typer.Option(help="Recordings: height x width, such as 720x1280, instead of what the files state."),
    ] = None,
    every: Annotated[
        int, typer.Option(min=1, help="Take every N-th frame of a video; show every N-th window.")
    ] = 1,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="At most this many pictures, frames of each video, windows of a recording."),
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, max=64, help="Pictures per request or run; pays on a GPU, not on a CPU.")
    ] = 1,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, max=64, help="Pictures in work at once. Default: one per core here, 4 on a server."
        ),
    ] = None,
    deadline_s: Annotated[
        float,
        typer.Option("--deadline", min=0.1, help="Seconds to go on asking a busy or restarting server."),
    ] = 60.0,
    json_: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON document.")] = False,
) -> None:
    """Detect in pictures, videos and recordings, or label pictures; write annotated copies and JSON.

    For example: `sightline predict street.jpg clips/ --score-threshold 0.4`, or
    `sightline predict plates/ --model defects --heatmap`, or `sightline predict street.raw --model events`
    """
    thresholds = _thresholds(score_threshold, iou_threshold, max_detections)
    if server is not None and repository is not None:
        fail("--server and --repository exclude each other", code=ExitCode.USAGE)
    if force and out is None:
        fail("--force needs --out: without it every run has a new folder", code=ExitCode.USAGE)

    from services.detector.cli.annotate import Wanted
    from services.detector.cli.choose import ModelChoice
    from services.detector.cli.predictors import Asked

    if batch > 1 and server is not None and ":" in model:
        fail(
            "a server takes several pictures at once for its live version only",
            hint="leave out --batch, or the version in --model",
            code=ExitCode.USAGE,
        )
    from shared.data.events.cli.options import parse_size

    asked = Asked(thresholds, heatmap)
    choice = ModelChoice(model, server, repository, asked, workers, deadline_s, parse_size(sensor))
    wanted = Wanted(
        pictures=format_ is not OutputFormat.JSON,
        documents=format_ is not OutputFormat.PICTURES,
        batch=batch,
        every=every,
        limit=limit,
    )
    _run(sources, choice, wanted, out, recursive=recursive, force=force, json_=json_)


def _run(
    arguments: list[str],
    choice: "ModelChoice",
    wanted: "Wanted",
    out: Path | None,
    *,
    recursive: bool,
    force: bool,
    json_: bool,
) -> None:
    from services.detector.cli.choose import open_annotator
    from services.detector.cli.report import RunReport
    from services.detector.cli.sources import choose_sources, find_files
    from shared.core.settings import CommonSettings

    settings = CommonSettings()
    files, problems = find_files(arguments, recursive=recursive)
    report = RunReport(problems)
    if files:
        # The model first: a name that does not exist must not leave an empty folder behind.
        annotator = open_annotator(choice, settings)
        try:
            sources, unsuited = choose_sources(files, annotator.takes, choice.name)
            for problem in unsuited:
                report.add(problem)
            if sources:
                folder = _results_folder(out, settings.var_dir / "predictions", force=force)
                report.start(annotator.predictor, folder, documents=wanted.documents)
                _predict_all(sources, annotator, folder, wanted, report)
        finally:
            annotator.predictor.close()
    report.finish(json_=json_)
    if report.problems:
        raise typer.Exit(ExitCode.FAILURE)


def _predict_all(
    sources: list["Source"], annotator: "Annotator", folder: Path, wanted: "Wanted", report: "RunReport"
) -> None:
    import httpx

    from services.detector.cli.remote import ServerUnavailable
    from shared.cli.client import fail_with_problem
    from shared.core.problems import Problem

    try:
        with report.progress() as progress:
            for result in annotator.annotate(sources, folder, wanted, progress):
                report.add(result)
    except KeyboardInterrupt:
        err.print(f"interrupted; finished results are in {folder}", markup=False, soft_wrap=True)
        raise
    except ServerUnavailable as error:
        fail(str(error), hint=f"finished results are in {folder}", code=ExitCode.UNAVAILABLE)
    except httpx.HTTPStatusError as error:
        fail_with_problem(error.response)
    except Problem as error:  # the model itself is at fault, so the next source would fare no better
        fail(error.detail)


def _results_folder(out: Path | None, parent: Path, *, force: bool) -> Path:
    from services.detector.cli.results import OutputExists, named_results_folder, new_results_folder

    try:
        return new_results_folder(parent) if out is None else named_results_folder(out, force=force)
    except OutputExists as error:
        fail(
            str(error),
            hint="name another folder, or add --force to replace results of the same names",
            code=ExitCode.USAGE,
        )
    except OSError as error:
        fail(f"cannot create the folder for the results: {error}")


def _thresholds(
    score_threshold: float | None, iou_threshold: float | None, max_detections: int | None
) -> dict[str, float | int]:
    """Return the thresholds that were given. NaN is refused too, which comparisons alone let through."""
    for name, value in (("--score-threshold", score_threshold), ("--iou-threshold", iou_threshold)):
        if value is not None and (math.isnan(value) or not 0 <= value <= 1):
            fail(f"{name} {value} is not between 0 and 1", code=ExitCode.USAGE)
    given = {
        "score_threshold": score_threshold,
        "iou_threshold": iou_threshold,
        "max_detections": max_detections,
    }
    return {name: value for name, value in given.items() if value is not None}
