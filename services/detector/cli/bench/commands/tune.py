"""`sightline bench tune`."""

from pathlib import Path
from typing import Annotated

import typer

from services.detector.cli.bench.commands.options import (
    Json,
    Model,
    Pictures,
    Report,
    Repository,
    Rounds,
    Untrained,
    explained,
    give,
    status,
    subject,
)
from shared.cli.console import ExitCode, err, fail, out


def tune(
    model: Model = "person",
    untrained: Untrained = None,
    repository: Repository = None,
    pictures: Pictures = None,
    goal: Annotated[
        str, typer.Option("--for", help="What counts: balanced, throughput or latency.")
    ] = "balanced",
    rounds: Rounds = 3,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=600, help="Time of each candidate under load, and as long without.")
    ] = 2.0,
    output: Annotated[
        Path | None,
        typer.Option(help="File to write. Default: <var>/detector.env, which the detector reads."),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Measure and print; write nothing.")] = False,
    report: Report = None,
    json_: Json = False,
) -> None:
    """Measure threads, runs at once and decoding with this model on this machine; write the best settings.

    The detector reads the file at its start, beneath its environment variables.
    """
    from services.detector.cli.bench.machine import describe_machine
    from services.detector.cli.bench.tables import tuning_table
    from services.detector.cli.bench.tuning import TuningPlan, fragment, measure_tuning, summarise_tuning
    from services.detector.settings import available_cores, tuned_file
    from shared.core.files import write_atomic

    if goal not in ("balanced", "throughput", "latency"):
        fail(f"--for {goal!r} is none of balanced, throughput and latency", code=ExitCode.USAGE)
    with explained(), subject(model, untrained, repository, pictures) as measured, status() as on_step:
        plan = TuningPlan(
            measured.repository,
            measured.model,
            measured.version,
            measured.pictures,
            available_cores(),
            goal,  # type: ignore[arg-type]
            rounds,
            seconds,
        )
        chosen, all_measured = measure_tuning(plan, on_step)
        document = {**measured.described(), **summarise_tuning(plan, chosen, all_measured)}
    lines = fragment(plan, chosen, str(describe_machine()["processor"]))
    give(document, [tuning_table(document)], as_json=json_, file=report)
    if not json_:
        out.print(lines, end="", highlight=False, markup=False, soft_wrap=True)
    if dry_run:
        return
    target = output or tuned_file()
    try:
        write_atomic(target, lines)
    except OSError as error:
        fail(f"cannot write {target}: {error}")
    err.print(f"written to {target}; a detector has these settings from its next start", highlight=False)
