"""`sightline bench serving`."""

import contextlib
from pathlib import Path
from typing import Annotated, Any

import typer

from services.detector.cli.bench.commands.options import (
    Json,
    Model,
    Pictures,
    Report,
    Repository,
    Rounds,
    Subject,
    Untrained,
    detector_settings,
    environments_folder,
    explained,
    give,
    needs_matplotlib,
    progress,
    refuse_unfit,
    subject,
    warn_if_crowded,
)
from shared.cli.console import ExitCode, err, fail


def serving(
    model: Model = "person",
    untrained: Untrained = None,
    repository: Repository = None,
    pictures: Pictures = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Measure only this side (sightline, fastapi, litserve, …); may be repeated."),
    ] = None,
    rounds: Rounds = 3,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=600, help="Time of each side at each concurrency.")
    ] = 2.5,
    concurrency: Annotated[
        list[int] | None,
        typer.Option(min=1, max=1024, help="Requests at once, may be repeated. Default: 1, 8, 32, 128."),
    ] = None,
    without_model: Annotated[
        bool,
        typer.Option(help="Serve a graph that computes next to nothing: what is left is the server's own."),
    ] = False,
    int8_version: Annotated[
        str | None, typer.Option(help="Measure this server with this version of the model, too.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a PNG of all sides here.")] = None,
    report: Report = None,
    json_: Json = False,
) -> None:
    """Measure the detector beside other servers and bare loops, on the same ONNX file and pictures.

    The others are those that `sightline bench peers install` has installed. Each turn is a process of its own
    on a free port of 127.0.0.1, with the bare loops before and after it.
    """
    from services.detector.cli.bench.serving import CONCURRENCIES, ServingPlan, measure_serving
    from services.detector.cli.bench.serving_report import aims, summarise
    from services.detector.cli.bench.tables import plot_serving, serving_tables
    from services.detector.settings import available_cores

    needs_matplotlib(plot)
    chosen = _chosen(only)
    with explained(), contextlib.ExitStack() as held:
        measured = held.enter_context(subject(model, untrained, repository, pictures))
        served = held.enter_context(_free(measured)) if without_model else measured
        threads = available_cores()
        sides = _sides(served, chosen, threads)
        if int8_version is not None:
            sides.insert(1, held.enter_context(_int8(measured, int8_version)))
        plan = ServingPlan(
            version=served.folder,
            pictures=served.pictures,
            sides=sides,
            threads=threads,
            rounds=rounds,
            seconds=seconds,
            concurrencies=tuple(sorted(set(concurrency or CONCURRENCIES))),
        )
        for side in plan.sides:
            if side.unusable:
                err.print(f"[yellow]left out:[/] {side.unusable}", highlight=False, soft_wrap=True)
        err.print(f"this takes about {plan.estimated_s / 60:.0f} min", highlight=False)
        with progress(plan.steps) as on_step:
            samples = measure_serving(plan, on_step)
        document: dict[str, Any] = {
            **measured.described(),
            "without_model": without_model,
            **summarise(plan, samples),
        }
    document["aims"] = aims(document, without_model=without_model)
    give(document, serving_tables(document), as_json=json_, file=report)
    for side in plan.sides:
        if side.name in samples.left_out and not side.unusable:
            err.print(f"[yellow]left out:[/] {samples.left_out[side.name]}", highlight=False, soft_wrap=True)
    warn_if_crowded(samples.other_cpu_share)
    if plot is not None:
        try:
            plot_serving(document, plot)
        except OSError as error:
            fail(f"cannot write {plot}: {error}")


def _chosen(only: list[str] | None) -> list[str]:
    from services.detector.cli.bench.sides import known_sides

    known = known_sides()
    if unknown := sorted(set(only or ()) - set(known)):
        fail(f"--only {unknown[0]!r} is unknown", hint=f"one of {', '.join(known)}", code=ExitCode.USAGE)
    return [name for name in known if not only or name in only]


def _sides(served: Subject, chosen: list[str], threads: int) -> list[Any]:
    from services.detector.cli.bench.peers.catalogue import PEERS
    from services.detector.cli.bench.sides import SIGHTLINE, detector_side, peer_side

    return [
        detector_side(served.repository, served.model, served.version, detector_settings())
        if name == SIGHTLINE
        else peer_side(PEERS[name], served.folder, threads, environments_folder())
        for name in chosen
    ]


@contextlib.contextmanager
def _free(measured: Subject) -> Any:
    """Yield a version like the measured one whose graph takes next to no time."""
    import tempfile

    from services.detector.cli.bench.graphs import free_graph
    from services.detector.cli.bench.model import add_changed_version
    from shared.repository.repository import ModelRepository

    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        repository = ModelRepository(Path(folder))
        graph = free_graph(measured.manifest)
        version = add_changed_version(repository, measured.manifest, graph, _usual_thresholds)
        repository.promote(measured.model, version)
        yield Subject(repository, measured.source, measured.model, version, measured.pictures)


def _usual_thresholds(draft: Any) -> Any:
    from shared.repository.manifest import Thresholds

    usual = Thresholds(score_threshold=0.5, iou_threshold=0.5, max_detections=100)
    return draft.model_copy(update={"thresholds": usual})


@contextlib.contextmanager
def _int8(measured: Subject, asked: str) -> Any:
    from services.detector.cli.bench.model import alone_in_a_repository
    from services.detector.cli.bench.sides import INT8, detector_side

    version = measured.source.resolve(measured.model, asked)
    manifest = measured.source.manifest(measured.model, version)
    refuse_unfit(manifest)
    if manifest.precision != "int8":
        fail(
            f"--int8-version: {measured.model} version {version} is {manifest.precision}",
            hint="export one with `sightline export RUN --precision int8 --no-promote`",
            code=ExitCode.USAGE,
        )
    with alone_in_a_repository(measured.source, measured.model, version) as alone:
        yield detector_side(
            alone, measured.model, version, detector_settings(), name=INT8, title="Sightline, int8"
        )
