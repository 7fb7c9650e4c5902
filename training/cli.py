"""`sightline train`: a run on this machine, or handed to the jobs service."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.cli.console import ExitCode, err, fail, out, print_json

if TYPE_CHECKING:
    from shared.config import RunConfig
    from shared.core.settings import CommonSettings
    from training.errors import StopReason
    from training.run import RunSummary


def train(
    family: Annotated[
        str | None, typer.Argument(help="Model family, such as `person`; not needed with --resume.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]…", help="Settings, such as `data.path=cctv model.grid_size=13`."),
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Recipe of the family to start from.  [default: recommended]")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; by default family and time.")] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Run folder, in place of one under the runs root.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a run: its name or its folder.")
    ] = None,
    submit: Annotated[
        bool,
        typer.Option(
            "--submit", help="Hand the run to the jobs service; data.path lies under its data root."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the resolved config and stop.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON document.")] = False,
) -> None:
    """Train a model.

    `sightline train person data.path=cctv` trains by the recommended recipe. Ctrl-C stops after the current
    step; the run goes on from its last finished epoch with `--resume`.
    """
    from shared.config import ConfigError, dump_run_config
    from shared.core.settings import CommonSettings

    settings = CommonSettings()
    _refuse_together(
        "--resume",
        resume,
        {"--recipe": recipe, "--name": name, "--run-dir": run_dir, "--submit": submit},
    )
    _refuse_together("--submit", submit, {"--name": name, "--run-dir": run_dir})
    words = [*([family] if family and "=" in family else []), *(overrides or [])]
    family = None if family and "=" in family else family
    try:
        if resume is not None:
            folder = existing_run(resume, settings)
            config = _resumed(folder, words)
            if family not in (None, config.family):
                fail(f"{folder.name} is a run of {config.family}, not of {family}", code=ExitCode.USAGE)
        else:
            if family is None:
                fail("name a family to train, such as `sightline train person`", code=ExitCode.USAGE)
            config = _composed(family, recipe or "recommended", words)
            folder = _new_run(config, run_dir, name, settings)
    except ConfigError as error:
        fail(
            str(error),
            hint="`sightline train FAMILY data.path=FOLDER --dry-run` prints every key",
            code=ExitCode.USAGE,
        )
    if dry_run:
        print_json(config.model_dump(mode="json")) if as_json else out.print(
            dump_run_config(config), end="", markup=False, highlight=False, soft_wrap=True
        )
    elif submit:
        _submit(config, words, settings, as_json=as_json)
    else:
        _train_here(with_data_found(config, settings), folder, settings, as_json=as_json)


class InterruptControl:
    """A RunControl that Ctrl-C and SIGTERM set; the second Ctrl-C ends the process at once."""

    def __init__(self) -> None:
        self._reason: StopReason | None = None

    def stop_requested(self) -> "StopReason | None":
        return self._reason

    def ensure_owned(self) -> None:
        return

    def report(self, type: str, **data: Any) -> None:  # noqa: A002 - the word of the job events
        return

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals inside the block."""
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, self._stop)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self._reason == "interrupt":
                raise KeyboardInterrupt
            err.print("stopping after this step (Ctrl-C again: at once)")
        self._reason = "interrupt" if number == signal.SIGINT else "shutdown"


def _train_here(config: "RunConfig", folder: Path, settings: "CommonSettings", *, as_json: bool) -> None:
    from shared.families.registry import family_task
    from training.errors import DataUnusable, RunStopped, TrainingError
    from training.run import train as run_training

    control = InterruptControl()
    err.print(f"run {folder.name} in {folder}", highlight=False, soft_wrap=True)
    try:
        with control.listening():
            summary = run_training(
                config,
                folder,
                control=control,
                progress="bar" if err.is_terminal and not as_json else "lines",
                data_root=settings.data_root,
                mlflow_uri=settings.mlflow_uri or "",
            )
    except RunStopped as stopped:
        again = f"sightline train --resume {folder}"
        hint = f"go on with `{again}`" if stopped.last_epoch else f"start again with `{again}`"
        fail(str(stopped), hint=hint, code=ExitCode.CANCELLED)
    except DataUnusable as error:
        from training.tasks import TASKS

        hint = TASKS[family_task(config.family)].data_hint
        fail(str(error), hint=hint.format(path=config.data.path))
    except TrainingError as error:
        fail(str(error))
    print_json(summary.as_json()) if as_json else _show(summary, config.family)


def _show(summary: "RunSummary", family: str) -> None:
    from rich.table import Table

    from shared.families.registry import family_task
    from training.tasks import TASKS

    table = Table(box=None, pad_edge=False, show_header=False)
    ended = f"{summary.epochs} epochs{', stopped early' if summary.stopped_early else ''}"
    table.add_row("run", f"{summary.run_id}: {ended}, best {summary.best_epoch}, {summary.seconds:.0f} s")
    for what, value in TASKS[family_task(family)].summary(summary.metrics, summary.per_class):
        table.add_row(f"{what} ({summary.evaluated_on})", value)
    table.add_row("folder", str(summary.run_dir))
    table.add_row("next", f"sightline export {summary.run_id}")
    out.print(table, soft_wrap=True)


def _submit(config: "RunConfig", overrides: list[str], settings: "CommonSettings", *, as_json: bool) -> None:
    from shared.cli.client import api_client, call

    params = {"family": config.family, "recipe": config.recipe, "overrides": overrides}
    with api_client(settings, settings.jobs_url) as client:
        job = call(client, "jobs", "POST", "/v1/jobs", json={"kind": "train", "params": params})
    if as_json:
        print_json(job)
    else:
        out.print(
            f"submitted as job {job['id']}; watch it with `sightline jobs watch {job['id']}`", soft_wrap=True
        )


def _refuse_together(option: str, given: object, others: dict[str, object]) -> None:
    """Leave the command where one of `others`, which would have no effect, is given beside `option`."""
    for other, value in others.items() if given else ():
        if value:
            fail(f"{option} and {other} do not go together", code=ExitCode.USAGE)


def _composed(family: str, recipe: str, overrides: list[str]) -> "RunConfig":
    from shared.config import compose_run

    return compose_run(family, recipe, overrides)


def _resumed(folder: Path, overrides: list[str]) -> "RunConfig":
    from shared.config import apply_overrides, load_run_config

    return apply_overrides(load_run_config(folder / "config.yaml"), overrides)


def existing_run(run: str, settings: "CommonSettings") -> Path:
    """Return a run's folder by its name or its path; leaves the command where there is none."""
    assert settings.runs_root is not None
    for folder in (settings.runs_root / run, Path(run).expanduser().absolute()):
        if (folder / "config.yaml").is_file():
            return folder
    there = sorted(path.parent.name for path in settings.runs_root.glob("*/config.yaml"))
    from shared.config import unknown

    return fail(unknown("run", run, there), code=ExitCode.NOT_FOUND)


def _new_run(config: "RunConfig", run_dir: Path | None, name: str | None, settings: "CommonSettings") -> Path:
    assert settings.runs_root is not None
    if run_dir is not None:
        return run_dir.expanduser().absolute()
    default = f"{config.family}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    folder = settings.runs_root / (name or default)
    if folder.parent != settings.runs_root:
        fail(
            f"--name {name!r} is not a plain name; use --run-dir for a folder elsewhere", code=ExitCode.USAGE
        )
    if folder.exists():
        fail(f"run {folder.name} exists", hint=f"go on with it: --resume {folder.name}", code=ExitCode.USAGE)
    return folder


def _with_weights_found(model: "dict[str, Any]") -> "dict[str, Any]":
    """Return the family's config with an absolute path of weights that lie in the current folder."""
    weights = Path(model["weights"]).expanduser() if model.get("weights") else None
    return {**model, "weights": str(weights.absolute())} if weights and weights.is_file() else model


def _found_here(split_file: str | None, beside: Path) -> str | None:
    """Return the absolute path of a split file in the current folder, unless one lies with the data.

    Otherwise a run could be resumed only from this folder.
    """
    if split_file is None:
        return None
    here = Path(split_file).expanduser()
    with_data = (beside if beside.is_dir() else beside.parent) / here
    return str(here.absolute()) if here.is_file() and not with_data.is_file() else split_file


def with_data_found(config: "RunConfig", settings: "CommonSettings") -> "RunConfig":
    """Return the config with an absolute data.path: from the current folder, else from the data root."""
    assert settings.data_root is not None
    given = Path(config.data.path).expanduser()
    for place in (given.absolute(), settings.data_root / given):
        if place.exists():
            data = config.data.model_copy(
                update={"path": str(place), "split_file": _found_here(config.data.split_file, beside=place)}
            )
            return config.model_copy(update={"data": data, "model": _with_weights_found(config.model)})
    return fail(
        f"data.path={config.data.path}: neither in the current folder nor under {settings.data_root}",
        hint="`sightline data make` makes a set to try: cctv with boxes, steel with labels, "
        "events to preprocess",
        code=ExitCode.NOT_FOUND,
    )
