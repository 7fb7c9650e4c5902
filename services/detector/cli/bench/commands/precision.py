"""`sightline bench precision`."""

from typing import Annotated

import typer

from services.detector.cli.bench.commands.options import (
    Json,
    Model,
    Pictures,
    Repository,
    Rounds,
    explained,
    open_repository,
    picture_folder,
    refuse_unfit,
    status,
    warn_if_crowded,
)
from shared.cli.console import out, print_json

Threads = Annotated[int, typer.Option(min=1, max=64, help="Threads of the bare loop over its one session.")]
IntraOp = Annotated[int, typer.Option(min=1, max=64, help="Threads inside one session run.")]
MaxSeconds = Annotated[
    float, typer.Option("--max-seconds", min=1, help="Begin no further round after this time.")
]


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
    """Compare versions of a model: latency, images per second, CPU time, size, and AP or F1.

    Without --version it takes the newest version of each precision; speed-ups are over the first one.
    """
    from services.detector.cli.bench.machine import describe_machine
    from services.detector.cli.bench.model import one_of_each_precision, parse_versions
    from services.detector.cli.bench.precision import PrecisionPlan, measure_precision
    from services.detector.cli.bench.tables import precision_table

    source = open_repository(repository)
    with explained(), picture_folder(pictures) as folder:
        chosen = parse_versions(source, model, versions) if versions else one_of_each_precision(source, model)
        task = source.manifest(model, chosen[0]).task
        for version in chosen:
            refuse_unfit(source.verify(model, version), tasks=(task,))
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
        with status() as on_step:
            measured = measure_precision(plan, on_step)
    report = {"model": model, "threads": threads, "intra_op": intra_op, **measured}
    report["machine"] = describe_machine()
    if json_:
        print_json(report)
    else:
        out.print(precision_table(report))
        warn_if_crowded(measured["other_cpu_share"])
