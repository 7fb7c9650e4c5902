"""Whether an answer depends on the company its request is in: many at once, each against its answer alone."""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.detector.cli.bench.client import Question, Unanswered, ask_all, document
from services.detector.cli.bench.load import Answer
from services.detector.cli.bench.pictures import varied_pictures

TOLERANCE = 1e-4
LEAST_DISTINCT = 0.5  # of the answers alone: were they all equal, an exchange could not be seen
SHOWN = 5

Ask = Callable[[list[Question], int], list[Answer | Exception]]


@dataclass(frozen=True, slots=True)
class CompanyPlan:
    """`requests` mixed pictures and thresholds, `concurrency` at once."""

    target: str
    pictures: Path
    score_threshold: float  # the model's own; those of the requests lie around it
    requests: int = 500
    concurrency: int = 32
    seed: int = 0


@dataclass(slots=True)
class CompanyOutcome:
    """What came of it. `wrong` holds what was wrong with an answer, by the number of its request."""

    requests: int
    distinct: int  # answers that differ, of those given alone
    detections: int
    largest_score_difference: float = 0.0
    largest_box_difference: float = 0.0  # as a share of the picture's longer side
    exchanged: int = 0
    wrong: dict[int, str] = field(default_factory=dict)

    @property
    def least_distinct(self) -> int:
        return math.ceil(LEAST_DISTINCT * self.requests)

    @property
    def telling(self) -> bool:
        """Whether the answers differ enough that an exchange would have been seen."""
        return self.distinct >= self.least_distinct

    @property
    def passed(self) -> bool:
        return not self.wrong and self.telling


def ask_server(port: int) -> Ask:
    """Return what sends questions to a server and brings the answers in the questions' order."""

    def ask(questions: list[Question], concurrency: int) -> list[Answer | Exception]:
        answers: dict[int, Answer | Exception] = {}
        asyncio.run(ask_all(port, enumerate(questions), concurrency, answers.__setitem__))
        return [answers[number] for number in range(len(questions))]

    return ask


def measure_company(plan: CompanyPlan, ask: Ask, on_step: Callable[[str], None]) -> CompanyOutcome:
    """Ask everything alone, then all of it at once in another order, and compare. Raises Unanswered."""
    questions = mixed_questions(plan)
    on_step("each alone")
    alone = [_answered(answer, "alone") for answer in ask(questions, 1)]
    order = list(range(len(questions)))
    random.Random(plan.seed + 1).shuffle(order)  # noqa: S311 - not for secrets
    on_step(f"{plan.concurrency} at once")
    together = dict(zip(order, ask([questions[each] for each in order], plan.concurrency), strict=True))
    return compare(alone, [together[number] for number in range(len(questions))])


def mixed_questions(plan: CompanyPlan) -> list[Question]:
    """Return pictures of several sizes, each with thresholds of its own; the same for the same seed."""
    draw = random.Random(plan.seed)  # noqa: S311 - not for secrets
    pictures = varied_pictures(plan.pictures)
    return [
        Question(
            plan.target,
            pictures[number % len(pictures)],
            {
                "score_threshold": round(plan.score_threshold * draw.uniform(0.6, 1.1), 4),
                "iou_threshold": round(draw.uniform(0.3, 0.8), 3),
                "max_detections": draw.choice((3, 10, 100)),
            },
        )
        for number in range(plan.requests)
    ]


def compare(alone: list[dict[str, Any]], together: list[Answer | Exception]) -> CompanyOutcome:
    """Compare every answer with the one that the same request got alone, within TOLERANCE.

    Scores are compared as they are, boxes as a share of the picture's longer side.
    """
    kinds = Counter(_kind(each) for each in alone)
    outcome = CompanyOutcome(len(alone), len(kinds), sum(len(each["detections"]) for each in alone))
    for number, (expected, answer) in enumerate(zip(alone, together, strict=True)):
        try:
            found = _answered(answer, "in company")
        except Unanswered as error:
            outcome.wrong[number] = str(error)
            continue
        problem = _compare_one(found, expected, outcome)
        if problem is not None:
            exchanged = _kind(found) in kinds
            outcome.exchanged += exchanged
            outcome.wrong[number] = problem + ("; it is the answer to another request" if exchanged else "")
    return outcome


def _compare_one(found: dict[str, Any], expected: dict[str, Any], outcome: CompanyOutcome) -> str | None:
    if found["image"] != expected["image"]:
        return f"the answer is for a picture of {found['image']}, not {expected['image']}"
    mine, theirs = found["detections"], expected["detections"]
    if [each["label_id"] for each in mine] != [each["label_id"] for each in theirs]:
        return f"{len(mine)} detections, alone {len(theirs)}, or other labels"
    side = max(expected["image"].values())
    scores = [abs(one["score"] - other["score"]) for one, other in zip(mine, theirs, strict=True)]
    boxes = [
        abs(one["box"][corner] - other["box"][corner]) / side
        for one, other in zip(mine, theirs, strict=True)
        for corner in ("x1", "y1", "x2", "y2")
    ]
    outcome.largest_score_difference = max(outcome.largest_score_difference, *scores, 0.0)
    outcome.largest_box_difference = max(outcome.largest_box_difference, *boxes, 0.0)
    if max(scores, default=0) > TOLERANCE:
        return f"a score is {max(scores):.6f} off"
    if max(boxes, default=0) > TOLERANCE:
        return f"a box is {max(boxes) * side:.3f} px off"
    return None


def _kind(answer: dict[str, Any]) -> str:
    return str((answer["image"], answer["detections"]))


def _answered(answer: Answer | Exception, how: str) -> dict[str, Any]:
    if isinstance(answer, Exception):
        raise Unanswered(f"asked {how}: {type(answer).__name__}: {answer}")
    return document(answer)
