"""`sightline bench swaps`."""

from typing import Annotated, Any

import typer

from services.detector.cli.bench.commands.options import (
    Json,
    Model,
    Pictures,
    Report,
    Repository,
    Subject,
    Untrained,
    detector_settings,
    explained,
    give,
    leave_if_missed,
    status,
    subject,
)
from shared.cli.console import fail


def swaps(
    model: Model = "person",
    untrained: Untrained = None,
    repository: Repository = None,
    pictures: Pictures = None,
    count: Annotated[int, typer.Option(min=1, max=1000, help="How often the live version is swapped.")] = 20,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests at once.")] = 16,
    report: Report = None,
    json_: Json = False,
) -> None:
    """Swap the live version under load: no request may fail, and every answer is wholly of one version.

    The second version is the first with every score, box and label changed, so that each answer shows whose
    graph and whose manifest made it. Exits with 1 where that fails.
    """
    from services.detector.cli.bench.graphs import changed_graph
    from services.detector.cli.bench.measuring import start_measuring
    from services.detector.cli.bench.model import add_changed_version
    from services.detector.cli.bench.server_process import start_detector
    from services.detector.cli.bench.sides import ANSWER_DEADLINE_S
    from services.detector.cli.bench.swaps import SHOWN, NotSwapped, SwapPlan, measure_swaps
    from services.detector.cli.bench.tables import aims_table, facts_table
    from shared.repository.manifest import MODEL_FILE

    with explained(), subject(model, untrained, repository, pictures) as measured, status() as on_step:
        graph = changed_graph((measured.folder / MODEL_FILE).read_bytes())
        other = add_changed_version(measured.repository, measured.manifest, graph, _relabelled)
        folders = [str(measured.repository.path(measured.model, each)) for each in (measured.version, other)]
        on_step("what each version answers")
        loop = "services.detector.cli.bench.bare_loop"
        with start_measuring(loop, str(measured.pictures), "1", *folders) as bare:
            answers = [bare.ask(ANSWER_DEADLINE_S, model=index, detect=True)["answers"] for index in (0, 1)]
        _refuse_silent(measured, answers)
        plan = SwapPlan(
            measured.repository,
            measured.model,
            (measured.version, other),
            measured.pictures,
            count,
            concurrency,
        )
        expected = dict(zip(plan.versions, answers, strict=True))
        with start_detector(measured.repository.root, detector_settings()) as server:
            try:
                outcome = measure_swaps(plan, server.port, expected, on_step)
            except NotSwapped as error:
                fail(str(error))
        document: dict[str, Any] = {
            **measured.described(),
            "concurrency": concurrency,
            "swaps": outcome.swaps,
            "slowest_swap_s": round(outcome.slowest_swap_s, 3),
            "requests": outcome.requests,
            "answers_by_version": {str(version): number for version, number in outcome.answers.items()},
            "failed": len(outcome.failed),
            "mixed": len(outcome.mixed),
            "examples": [*outcome.failed[:SHOWN], *outcome.mixed[:SHOWN]],
        }
    document["aims"] = [
        {"aim": "failed requests", "value": len(outcome.failed), "limit": 0, "least": False,
         "met": not outcome.failed},
        {"aim": "answers not wholly of one version", "value": len(outcome.mixed), "limit": 0, "least": False,
         "met": not outcome.mixed},
    ]  # fmt: skip
    facts = {
        "swaps, each seen in an answer": f"{outcome.swaps}, the slowest after {outcome.slowest_swap_s:.2f} s",
        "requests": str(outcome.requests),
        "answers by version": ", ".join(f"{key}: {number}" for key, number in outcome.answers.items()),
        **{f"wrong {number + 1}": text for number, text in enumerate(document["examples"])},
    }
    title = f"{measured.model}: {count} swaps at {concurrency} requests at once"
    give(document, [facts_table(title, facts), aims_table(document["aims"])], as_json=json_, file=report)
    leave_if_missed(document["aims"])


def _relabelled(draft: Any) -> Any:
    """Rename the labels and lower the threshold as the changed graph lowers the scores."""
    from services.detector.cli.bench.graphs import SCORE_FACTOR

    lowered = draft.thresholds.score_threshold * SCORE_FACTOR
    return draft.model_copy(
        update={
            "labels": [f"{label} of the other version" for label in draft.labels],
            "thresholds": draft.thresholds.model_copy(update={"score_threshold": lowered}),
        }
    )


def _refuse_silent(measured: Subject, answers: list[list[list[dict[str, Any]]]]) -> None:
    first, second = answers
    empty = sum(not mine or not theirs for mine, theirs in zip(first, second, strict=True))
    if empty > len(first) / 2:
        fail(
            f"{measured.model} version {measured.version} finds nothing in {empty} of {len(first)} pictures: "
            "answers without detections cannot be told apart",
            hint="give --pictures that show what the model finds",
        )
