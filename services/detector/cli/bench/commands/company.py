"""`sightline bench company`."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from services.detector.cli.bench.commands.options import (
    SETTINGS_PREFIX,
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
from shared.cli.console import fail


def company(
    model: Model = "person",
    untrained: Untrained = None,
    repository: Repository = None,
    pictures: Pictures = None,
    requests: Annotated[int, typer.Option(min=2, max=100_000, help="Mixed pictures and thresholds.")] = 500,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests at once.")] = 32,
    max_batch: Annotated[
        int | None, typer.Option(min=1, max=64, help="Start the detector with batches up to this size.")
    ] = None,
    report: Report = None,
    json_: Json = False,
) -> None:
    """Compare answers given in company with those that the same requests get alone.

    Each has a picture and thresholds of its own; scores may differ by 1e-4, boxes by 1e-4 of the picture's
    longer side. Exits with 1 where one differs by more or is another request's.
    """
    from services.detector.cli.bench.client import Unanswered
    from services.detector.cli.bench.company import SHOWN, CompanyPlan, ask_server, measure_company
    from services.detector.cli.bench.server_process import start_detector
    from services.detector.cli.bench.tables import aims_table, facts_table

    settings = detector_settings()
    if max_batch is not None:
        settings |= {f"{SETTINGS_PREFIX}MAX_BATCH": str(max_batch), f"{SETTINGS_PREFIX}MAX_DELAY_MS": "5"}
    with explained(), subject(model, untrained, repository, pictures) as measured, status() as on_step:
        plan = CompanyPlan(
            f"/v1/models/{measured.model}/detect",
            measured.pictures,
            measured.manifest.thresholds.score_threshold,
            requests,
            concurrency,
        )
        with start_detector(measured.repository.root, settings) as server:
            try:
                outcome = measure_company(plan, ask_server(server.port), on_step)
            except Unanswered as error:
                fail(str(error))
        document: dict[str, Any] = {
            **measured.described(),
            "settings": settings,
            "concurrency": concurrency,
            "max_batch": max_batch,
            **{**asdict(outcome), "wrong": {str(number): text for number, text in outcome.wrong.items()}},
        }
    document["aims"] = [
        {"aim": "answers that differ", "value": len(outcome.wrong), "limit": 0, "least": False,
         "met": not outcome.wrong},
        {"aim": "of these, the answer to another request", "value": outcome.exchanged, "limit": 0,
         "least": False, "met": not outcome.exchanged},
        {"aim": "different answers, so that an exchange shows", "value": outcome.distinct,
         "limit": outcome.least_distinct, "least": True, "met": outcome.telling},
    ]  # fmt: skip
    facts = {
        "requests": f"{outcome.requests} with {outcome.detections} detections",
        "largest difference of a score": f"{outcome.largest_score_difference:.2g}",
        "largest difference of a box, of the longer side": f"{outcome.largest_box_difference:.2g}",
        **{f"request {number}": text for number, text in list(outcome.wrong.items())[:SHOWN]},
    }
    batches = "" if max_batch is None else f", batches up to {max_batch}"
    title = f"{measured.model}: alone and {concurrency} at once{batches}"
    give(document, [facts_table(title, facts), aims_table(document["aims"])], as_json=json_, file=report)
    leave_if_missed(document["aims"])
