"""`sightline bench overload`."""

from typing import Annotated

import typer

from services.detector.cli.bench.commands.options import (
    Json,
    Model,
    Pictures,
    Report,
    Repository,
    Untrained,
    detector_settings,
    explained,
    give,
    leave_if_missed,
    status,
    subject,
)


def overload(
    model: Model = "person",
    untrained: Untrained = None,
    repository: Repository = None,
    pictures: Pictures = None,
    factor: Annotated[
        float, typer.Option(min=1, max=50, help="Times the saturated throughput that is offered.")
    ] = 4.0,
    seconds: Annotated[float, typer.Option(min=0.5, max=600, help="Time of the overload.")] = 10.0,
    most: Annotated[int, typer.Option(min=1, help="Most requests of the overload.")] = 20_000,
    report: Report = None,
    json_: Json = False,
) -> None:
    """Offer several times what the detector can answer, and see what becomes of it, then and afterwards.

    Exits with 1 where an aim is missed.
    """
    from services.detector.cli.bench.measuring import start_measuring
    from services.detector.cli.bench.overload import OverloadPlan, measure_overload, summarise_overload
    from services.detector.cli.bench.sides import detector_side, serving
    from services.detector.cli.bench.tables import aims_table, overload_table

    plan = OverloadPlan(factor, seconds, saturation_s=max(1.0, 0.6 * seconds), most=most)
    with explained(), subject(model, untrained, repository, pictures) as measured, status() as on_step:
        side = detector_side(measured.repository, measured.model, measured.version, detector_settings())
        with (
            start_measuring("services.detector.cli.bench.load", str(measured.pictures)) as process,
            serving(side, process) as load,
        ):
            samples = measure_overload(plan, load, on_step)
        document = {**measured.described(), **summarise_overload(plan, samples)}
    give(document, [overload_table(document), aims_table(document["aims"])], as_json=json_, file=report)
    leave_if_missed(document["aims"])
