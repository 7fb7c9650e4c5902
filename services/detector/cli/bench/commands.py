"""The options of `sightline bench serving` and `sightline bench precision`."""

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from shared.cli.console import ExitCode, err, fail, out, print_json

HOW_TO_MAKE_A_VERSION = (
    "make one with `sightline data make cctv`, `sightline train` and `sightline export`; "
    "for speed alone a run of one epoch will do"
)

CROWDED_SHARE = 0.1

Model = Annotated[str, typer.Option("--model", "-m", help="Model, as NAME or, for serving, NAME:VERSION.")]
Repository = Annotated[
    Path | None, typer.Option(help="Model repository. Default: SIGHTLINE_REPOSITORY_ROOT, or var/repository.")
]
Pictures = Annotated[
    Path | None, typer.Option(help="Folder of JPEG pictures. Default: 32 cctv scenes of 640 x 480.")
]
Rounds = Annotated[int, typer.Option(min=1, max=100, help="Interleaved rounds; medians are over them.")]
Threads = Annotated[int, typer.Option(min=1, max=64, help="Threads of the bare loop over its one session.")]
IntraOp = Annotated[int, typer.Option(min=1, max=64, help="Threads inside one session run, on every side.")]
MaxSeconds = Annotated[
    float, typer.Option("--max-seconds", min=1, help="Begin no further round after this time.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the report as one JSON document.")]


def serving(
    model: Model = "person",
    repository: Repository = None,
    pictures: Pictures = None,
    rounds: Rounds = 5,
    images: Annotated[int, typer.Option(min=16, help="Pictures per round and concurrency.")] = 200,
    latency_images: Annotated[int, typer.Option(min=5, help="Pictures per round, one at a time.")] = 60,
    threads: Threads = 2,
    intra_op: IntraOp = 1,
    starts: Annotated[int, typer.Option(min=1, max=20, help="Starts that ready time is taken from.")] = 3,
    max_s: MaxSeconds = 600.0,
    plot: Annotated[Path | None, typer.Option(help="Write a PNG with throughput and latency here.")] = None,
    json_: Json = False,
) -> None:
    """Measure the detector over HTTP against a bare loop on the same version and pictures.

    Starts its own detector on a free port of 127.0.0.1, a load generator and the bare loop, each a process.
    """
    from services.detector.cli.bench.machine import describe_machine
    from services.detector.cli.bench.serving import ServingPlan, measure_serving, summarise
    from services.detector.cli.bench.tables import plot_serving, serving_tables
    from services.detector.cli.bench.version import alone_in_a_repository

    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        fail("--plot needs the Python package 'matplotlib'", code=ExitCode.UNAVAILABLE)
    name, _, asked = model.partition(":")
    source = _repository(repository)
    with _explained(), _pictures(pictures) as folder:
        version = source.resolve(name, asked or None)
        _refuse_end_to_end(source.manifest(name, version))
        with alone_in_a_repository(source, name, version) as alone:
            plan = ServingPlan(
                repository=alone.root,
                model=name,
                version=alone.path(name, version),
                pictures=folder,
                rounds=rounds,
                images=images,
                latency_images=latency_images,
                threads=threads,
                intra_op=intra_op,
                starts=starts,
                max_s=max_s,
            )
            with _status() as on_step:
                samples = measure_serving(plan, on_step)
        report: dict[str, Any] = {
            "model": name,
            "version": version,
            "precision": source.manifest(name, version).precision,
            "threads": threads,
            "intra_op": intra_op,
            "images": images,
            "latency_images": latency_images,
            **summarise(samples),
            "machine": describe_machine(),
        }
    if json_:
        print_json(report)
    else:
        for table in serving_tables(report):
            out.print(table)
        _warn_if_crowded(report["other_cpu_share"])
    if plot is not None:
        try:
            plot_serving(report, plot)
        except OSError as error:
            fail(f"cannot write {plot}: {error}")


def precision(
    model: Model = "person",
    versions: Annotated[
        list[str] | None, typer.Option("--version", help="Version or alias, repeatable. Default: see below.")
    ] = None,
    repository: Repository = None,
    pictures: Pictures = None,
    rounds: Rounds = 5,
    images: Annotated[int, typer.Option(min=1, help="Pictures per round and version.")] = 100,
    latency_images: Annotated[int, typer.Option(min=1, help="Pictures per round, one at a time.")] = 40,
    threads: Threads = 2,
    intra_op: IntraOp = 1,
    max_s: MaxSeconds = 600.0,
    json_: Json = False,
) -> None:
    """Compare versions of a model: latency, images per second, CPU time, size and AP.

    Without --version it takes the newest version of each precision; speed-ups are over the first one.
    """
    from services.detector.cli.bench.machine import describe_machine
    from services.detector.cli.bench.precision import PrecisionPlan, measure_precision
    from services.detector.cli.bench.tables import precision_table
    from services.detector.cli.bench.version import one_of_each_precision, parse_versions

    source = _repository(repository)
    with _explained(), _pictures(pictures) as folder:
        chosen = parse_versions(source, model, versions) if versions else one_of_each_precision(source, model)
        for version in chosen:
            _refuse_end_to_end(source.verify(model, version))
        plan = PrecisionPlan(
            repository=source,
            model=model,
            versions=chosen,
            pictures=folder,
            rounds=rounds,
            images=images,
            latency_images=latency_images,
            threads=threads,
            intra_op=intra_op,
            max_s=max_s,
        )
        with _status() as on_step:
            measured = measure_precision(plan, on_step)
    report = {"model": model, "threads": threads, "intra_op": intra_op, **measured}
    report["machine"] = describe_machine()
    if json_:
        print_json(report)
    else:
        out.print(precision_table(report))
        _warn_if_crowded(measured["other_cpu_share"])


def _warn_if_crowded(other_cpu_share: float) -> None:
    if other_cpu_share > CROWDED_SHARE:
        err.print(
            f"[yellow]warning:[/] other processes used {other_cpu_share:.0%} of this machine meanwhile; "
            "latencies and images per second are those of a crowded machine",
            highlight=False,
            soft_wrap=True,
        )


def _repository(root: Path | None) -> Any:
    from shared.core.settings import CommonSettings
    from shared.repository.repository import ModelRepository

    repository = ModelRepository(root or CommonSettings().repository_root or Path("var/repository"))
    if not repository.models():
        fail(f"there is no model in {repository.root}", hint=HOW_TO_MAKE_A_VERSION, code=ExitCode.NOT_FOUND)
    return repository


def _refuse_end_to_end(manifest: Any) -> None:
    if manifest.end_to_end:
        fail(
            f"{manifest.name} version {manifest.version} has suppression inside its graph; "
            "the bare loop does it outside and cannot run it",
            hint="export the run again without end_to_end",
            code=ExitCode.USAGE,
        )


@contextlib.contextmanager
def _pictures(folder: Path | None) -> Iterator[Path]:
    from services.detector.cli.bench.pictures import generated_pictures, read_pictures

    if folder is None:
        with generated_pictures() as generated:
            yield generated
        return
    try:
        read_pictures(folder)
    except OSError as error:
        fail(f"--pictures: {error}", code=ExitCode.USAGE)
    yield folder


@contextlib.contextmanager
def _status() -> Iterator[Any]:
    with err.status("starting") as status:
        yield lambda step: status.update(f"measuring: {step}")


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    from services.detector.cli.bench.detector_process import DetectorNotReady
    from services.detector.cli.bench.peer import PeerFailed
    from services.detector.cli.bench.serving import ServingFailed
    from shared.core.problems import NotFound, Problem

    try:
        yield
    except NotFound as error:
        fail(error.detail, code=ExitCode.NOT_FOUND)
    except Problem as error:
        fail(error.detail)
    except (DetectorNotReady, PeerFailed, ServingFailed) as error:
        fail(str(error))
