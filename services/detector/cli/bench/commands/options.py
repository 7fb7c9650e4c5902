"""What the benchmarks have in common on the command line: model, pictures, and how results are given."""

import contextlib
import importlib.util
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from shared.cli.console import ExitCode, err, fail, print_json
from shared.core.settings import CommonSettings

HOW_TO_MAKE_A_VERSION = (
    "make one with `sightline data make cctv`, `sightline train` and `sightline export`; "
    "for speed alone `--untrained base` does without"
)
CROWDED_SHARE = 0.1
SETTINGS_PREFIX = "SIGHTLINE_DETECTOR_"

Model = Annotated[str, typer.Option("--model", "-m", help="Model, as NAME or NAME:VERSION.")]
Untrained = Annotated[
    str | None,
    typer.Option(
        metavar="DEPTH",
        help="Instead of --model: the person network with random weights (light, base, deep). Needs PyTorch.",
    ),
]
Repository = Annotated[
    Path | None, typer.Option(help="Model repository. Default: SIGHTLINE_REPOSITORY_ROOT, or var/repository.")
]
Pictures = Annotated[
    Path | None, typer.Option(help="Folder of JPEG pictures. Default: 32 cctv scenes of 640 x 480.")
]
Rounds = Annotated[int, typer.Option(min=1, max=100, help="Interleaved rounds; medians are over them.")]
Json = Annotated[bool, typer.Option("--json", help="Print the report as one JSON document.")]
Report = Annotated[Path | None, typer.Option(help="Write the report as JSON here, too.")]


@dataclass(frozen=True, slots=True)
class Subject:
    """The version that is measured, alone and live in a repository of its own."""

    repository: Any  # ModelRepository
    source: Any  # the repository that it comes from
    model: str
    version: int
    pictures: Path

    @property
    def folder(self) -> Path:
        folder: Path = self.repository.path(self.model, self.version)
        return folder

    @property
    def manifest(self) -> Any:
        return self.repository.manifest(self.model, self.version)

    def described(self) -> dict[str, Any]:
        """Return what the report says of it."""
        from services.detector.cli.bench.machine import describe_machine

        return {
            "model": self.model,
            "version": self.version,
            "precision": self.manifest.precision,
            "settings": detector_settings(),
            "machine": describe_machine(),
        }


@contextlib.contextmanager
def subject(
    model: str, untrained: str | None, repository: Path | None, pictures: Path | None
) -> Iterator[Subject]:
    """Yield what the options name; leaves the command with a message where that is not there."""
    from services.detector.cli.bench.model import UNTRAINED, alone_in_a_repository, untrained_repository

    with contextlib.ExitStack() as held:
        if untrained is None:
            source, name = open_repository(repository), model
        else:
            if untrained not in ("light", "base", "deep"):
                fail(f"--untrained {untrained!r} is none of light, base and deep", code=ExitCode.USAGE)
            source, name = held.enter_context(untrained_repository(untrained)), UNTRAINED
            err.print("random weights: for timing alone, what it finds has no meaning", highlight=False)
        folder = held.enter_context(picture_folder(pictures))
        name, _, asked = name.partition(":")
        version = source.resolve(name, asked or None)
        refuse_unfit(source.manifest(name, version))
        alone = held.enter_context(alone_in_a_repository(source, name, version))
        yield Subject(alone, source, name, version, folder)


def open_repository(root: Path | None) -> Any:
    """Return the model repository; leaves the command where no model is in it."""
    from shared.repository.repository import ModelRepository

    repository = ModelRepository(root or CommonSettings().repository_root or Path("var/repository"))
    if not repository.models():
        fail(f"there is no model in {repository.root}", hint=HOW_TO_MAKE_A_VERSION, code=ExitCode.NOT_FOUND)
    return repository


def refuse_unfit(manifest: Any, tasks: Collection[str] = ("detection",)) -> None:
    """Leave the command where the bare loop cannot run a version as the detector does."""
    if manifest.task not in tasks:
        fail(
            f"{manifest.name} version {manifest.version} is a {manifest.task} model; "
            f"this runs {' and '.join(tasks)} models",
            code=ExitCode.USAGE,
        )
    if manifest.end_to_end:
        fail(
            f"{manifest.name} version {manifest.version} has suppression inside its graph; "
            "the bare loop does it outside and cannot run it",
            hint="export the run again without end_to_end",
            code=ExitCode.USAGE,
        )


@contextlib.contextmanager
def picture_folder(folder: Path | None) -> Iterator[Path]:
    """Yield the folder of pictures, or one of generated ones."""
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


def environments_folder() -> Path:
    """Return where the peers' virtual environments are."""
    return CommonSettings().var_dir / "bench"


def detector_settings() -> dict[str, str]:
    """Return the settings that a detector here would have: of the tuned file, and of the environment."""
    from dotenv import dotenv_values

    from services.detector.settings import tuned_file

    tuned = {name: value for name, value in dotenv_values(tuned_file()).items() if value is not None}
    given = tuned | os.environ
    return {name: value for name, value in sorted(given.items()) if name.startswith(SETTINGS_PREFIX)}


@contextlib.contextmanager
def status() -> Iterator[Any]:
    """Show the step that is being measured."""
    with err.status("starting") as shown:
        yield lambda step: shown.update(f"measuring: {step}")


@contextlib.contextmanager
def progress(steps: int) -> Iterator[Any]:
    """Show a bar over a known number of steps; what it yields moves it on."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("starting", total=steps)

        def on_step(step: str) -> None:
            bar.update(task, description=step, advance=1)

        yield on_step


def give(report: dict[str, Any], tables: list[Any], *, as_json: bool, file: Path | None) -> None:
    """Print the report as tables or JSON, and write it where the user wants it."""
    import orjson

    from shared.cli.console import out
    from shared.core.files import write_atomic

    if as_json:
        print_json(report)
    else:
        for table in tables:
            out.print(table)
    if file is not None:
        try:
            write_atomic(file, orjson.dumps(report, option=orjson.OPT_INDENT_2))
        except OSError as error:
            fail(f"cannot write {file}: {error}")


def leave_if_missed(aims: list[dict[str, Any]]) -> None:
    """Leave the command with a failure where an aim is missed."""
    if not all(row["met"] for row in aims):
        raise typer.Exit(ExitCode.FAILURE)


def needs_matplotlib(plot: Path | None) -> None:
    """Leave the command where a plot is wanted and cannot be drawn."""
    if plot is not None and importlib.util.find_spec("matplotlib") is None:
        fail("--plot needs the Python package 'matplotlib'", code=ExitCode.UNAVAILABLE)


def warn_if_crowded(other_cpu_share: float) -> None:
    """Say that others used the machine meanwhile."""
    if other_cpu_share > CROWDED_SHARE:
        err.print(
            f"[yellow]warning:[/] other processes used {other_cpu_share:.0%} of this machine meanwhile; "
            "latencies and images per second are those of a crowded machine",
            highlight=False,
            soft_wrap=True,
        )


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turn what goes wrong in a benchmark into a message and an exit code."""
    from services.detector.cli.bench.graphs import NoOnnx
    from services.detector.cli.bench.measuring import MeasuringFailed
    from services.detector.cli.bench.model import NoUntrainedModel
    from services.detector.cli.bench.server_process import ServerNotReady
    from services.detector.cli.bench.serving import ServingFailed
    from services.detector.cli.bench.sides import SideFailed
    from shared.core.problems import NotFound, Problem

    try:
        yield
    except NotFound as error:
        fail(error.detail, code=ExitCode.NOT_FOUND)
    except Problem as error:
        fail(error.detail)
    except (NoOnnx, NoUntrainedModel) as error:
        fail(str(error), code=ExitCode.UNAVAILABLE)
    except (ServerNotReady, MeasuringFailed, ServingFailed, SideFailed) as error:
        fail(str(error))
