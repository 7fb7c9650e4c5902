"""An answer does not depend on what else is asked meanwhile."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from services.detector.settings import DetectorSettings
from tests.fixtures.tiny_detection_model import TinyModel, paint, tiny_repository
from tests.services.detector.pictures import encode
from tests.services.detector.serving import Served, serving

REQUESTS = 500
CONCURRENCY = 32
CELL = 24  # pixels, of the tiny model's input of 96


def picture(number: int) -> bytes:
    """A picture that no other number gives: rectangles in some cells, of other sizes and strengths."""
    rng = np.random.default_rng(number)
    image = np.zeros((96, 96, 3), np.uint8)
    for cell in range(16):
        if rng.random() < 0.4:
            y, x = CELL * (cell // 4), CELL * (cell % 4)
            size = int(rng.integers(4, CELL))
            box = (x, y, x + size, y + int(rng.integers(4, CELL)))
            paint(image, box, int(rng.integers(3)), int(rng.integers(128, 256)))
    return encode(image)


def thresholds(number: int) -> dict[str, Any]:
    if number % 3 == 0:
        return {}
    return {"score_threshold": round(0.5 + 0.45 * (number % 7) / 7, 3), "max_detections": 1 + number % 5}


@pytest.fixture(scope="module", params=["one by one", "in batches"])
def busy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The default of a CPU, where a lone request runs on a session of its own, and batches as on a GPU."""
    repository = tiny_repository(tmp_path_factory.mktemp("busy"), model=TinyModel())
    batches = {"max_batch": 8, "max_delay_ms": 5} if request.param == "in batches" else {}
    with serving(repository.root, queue_size=100, queue_s=60, **batches) as served:
        yield served


def ask(served: Served, number: int) -> dict[str, Any]:
    answer = served.detect(PICTURES[number], **thresholds(number))
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


PICTURES = [picture(number) for number in range(REQUESTS)]


def test_every_answer_equals_its_solo_answer_whatever_shares_its_batch(busy: Served) -> None:
    alone = [ask(busy, number) for number in range(REQUESTS)]
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        together = list(pool.map(lambda number: ask(busy, number), reversed(range(REQUESTS))))[::-1]
    assert len({str(one["detections"]) for one in alone}) > REQUESTS * 0.9  # a swap would show
    for number, (solo, answer) in enumerate(zip(alone, together, strict=True)):
        assert len(answer["detections"]) == len(solo["detections"]), number
        for found, expected in zip(answer["detections"], solo["detections"], strict=True):
            assert found["label"] == expected["label"]
            assert found["score"] == pytest.approx(expected["score"], abs=1e-4)
            assert found["box"] == pytest.approx(expected["box"], abs=1e-4)
    runs = busy.metric("sightline_detector_batch_size_count")
    assert busy.metric("sightline_detector_batch_size_sum") == REQUESTS * 2
    assert runs == REQUESTS * 2 or runs < REQUESTS * 1.8  # one by one, or really in company
    if DetectorSettings().wide_threads is not None:
        assert min(
            busy.metric("sightline_detector_session_runs_total", session=session)
            for session in ("wide", "narrow")
        )
