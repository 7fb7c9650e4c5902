"""Whether versions change hands under load without a failed request or an answer of two minds."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.detector.cli.bench.client import Question, Unanswered, ask_all, document
from services.detector.cli.bench.load import Answer
from services.detector.cli.bench.pictures import read_pictures
from services.detector.cli.bench.sides import difference
from shared.repository.repository import ModelRepository

SWAP_DEADLINE_S = 30.0
SHOWN = 5

Expected = dict[int, list[list[dict[str, Any]]]]  # version -> detections of each picture


@dataclass(frozen=True, slots=True)
class SwapPlan:
    """`swaps` moves of the alias live between two versions, with `concurrency` requests in flight."""

    repository: ModelRepository
    model: str
    versions: tuple[int, int]
    pictures: Path
    swaps: int = 20
    concurrency: int = 16


@dataclass(slots=True)
class SwapOutcome:
    """What came of it: swaps that the answers showed, answers per version, and what was wrong with any."""

    swaps: int = 0
    slowest_swap_s: float = 0.0
    requests: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.failed and not self.mixed


class NotSwapped(RuntimeError):
    """The server went on with the old version; the message says for how long."""


def judge(answer: Answer | Exception, picture: int, expected: Expected, outcome: SwapOutcome) -> int | None:
    """Count one answer; return its version, or None for one that failed.

    It is wholly of one version if header and body name the same and the detections are those that this
    version gives to this picture.
    """
    outcome.requests += 1
    if isinstance(answer, Exception):
        outcome.failed.append(f"{type(answer).__name__}: {answer}")
        return None
    try:
        found = document(answer)
    except Unanswered as error:
        outcome.failed.append(str(error))
        return None
    version = int(found["version"])
    outcome.answers[version] += 1
    header = answer.headers.get("x-model-version")
    if header != str(version):
        outcome.mixed.append(f"X-Model-Version says {header}, the body version {version}")
    elif version not in expected:
        outcome.mixed.append(f"version {version} is neither of those that are swapped")
    elif wrong := difference(found["detections"], expected[version][picture]):
        outcome.mixed.append(f"picture {picture}, version {version}: {wrong}")
    return version


def measure_swaps(
    plan: SwapPlan, port: int, expected: Expected, on_step: Callable[[str], None]
) -> SwapOutcome:
    """Swap under load until every swap was seen in an answer. Raises NotSwapped."""
    return asyncio.run(_measure(plan, port, expected, on_step))


async def _measure(
    plan: SwapPlan, port: int, expected: Expected, on_step: Callable[[str], None]
) -> SwapOutcome:
    outcome, over = SwapOutcome(), False
    pictures = read_pictures(plan.pictures)
    question = [Question(f"/v1/models/{plan.model}/detect", picture) for picture in pictures]
    since_move: Counter[int] = Counter()

    def questions() -> Iterator[tuple[int, Question]]:
        number = 0
        while not over:
            yield number % len(question), question[number % len(question)]
            number += 1

    def on_answer(picture: int, answer: Answer | Exception) -> None:
        version = judge(answer, picture, expected, outcome)
        if version is not None:
            since_move[version] += 1

    load = asyncio.create_task(ask_all(port, questions(), plan.concurrency, on_answer))
    try:
        for number in range(plan.swaps):
            on_step(f"swap {number + 1}")
            target = plan.versions[(number + 1) % 2]
            since_move.clear()
            moved = time.monotonic()
            await asyncio.to_thread(plan.repository.promote, plan.model, target)
            seen_after_s: float | None = None
            # Every connection gets an answer of the new version before the next swap.
            while since_move[target] < plan.concurrency:
                passed_s = time.monotonic() - moved
                if since_move[target] and seen_after_s is None:
                    seen_after_s = passed_s
                if passed_s > SWAP_DEADLINE_S:
                    raise NotSwapped(
                        f"{since_move[target]} answers of version {target} within "
                        f"{SWAP_DEADLINE_S:g} s of its promotion; all answers: {dict(outcome.answers)}, "
                        f"failed: {outcome.failed[:SHOWN]}"
                    )
                await asyncio.sleep(0.005)
            outcome.swaps += 1
            outcome.slowest_swap_s = max(outcome.slowest_swap_s, seen_after_s or 0.0)
    finally:
        over = True
        await load
    return outcome
