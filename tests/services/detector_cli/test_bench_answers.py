"""What the benchmarks that look at answers find wrong: each with an answer that was tampered with."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from services.detector.cli.bench.company import CompanyPlan, compare, measure_company, mixed_questions
from services.detector.cli.bench.graphs import BOX_SHIFT_PX, SCORE_FACTOR, changed_graph, free_graph
from services.detector.cli.bench.load import Answer
from services.detector.cli.bench.peers.detection import open_session
from services.detector.cli.bench.sides import difference
from services.detector.cli.bench.swaps import SwapOutcome, judge
from shared.repository.repository import ModelRepository


def detection(x: float, score: float = 0.9, label: str = "red") -> dict[str, Any]:
    box = {"x1": x, "y1": 10.0, "x2": x + 20, "y2": 40.0}
    return {"box": box, "score": score, "label": label, "label_id": 0}


def document(*detections: dict[str, Any], version: int = 1) -> dict[str, Any]:
    return {
        "model": "tiny", "version": version, "image": {"width": 200, "height": 100},
        "detections": list(detections),
    }  # fmt: skip


def answer(body: dict[str, Any], *, status: int = 200, header: str = "1") -> Answer:
    return Answer(status, {"x-model-version": header}, json.dumps(body).encode())


ALONE = [document(detection(float(number))) for number in range(10)]


def tampered(change: Callable[[dict[str, Any]], object], status: int = 200) -> list[Answer | Exception]:
    bodies = copy.deepcopy(ALONE)
    change(bodies[4])
    return [answer(body, status=status if number == 4 else 200) for number, body in enumerate(bodies)]


def test_equal_answers_pass_with_differences_below_the_tolerance():
    outcome = compare(ALONE, tampered(lambda body: body["detections"][0].update(score=0.90005)))
    assert outcome.passed
    assert (outcome.requests, outcome.distinct, outcome.detections) == (10, 10, 10)
    assert outcome.largest_score_difference == pytest.approx(5e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda body: body["detections"][0].update(score=0.9002), "score is 0.000200 off"),
        (lambda body: body["detections"][0]["box"].update(x2=24.05), "box is 0.050 px off"),
        (lambda body: body["detections"].clear(), "0 detections, alone 1"),
        (lambda body: body["image"].update(width=100), "picture of"),
        (lambda body: body.update(ALONE[7]), "answer to another request"),
    ],
)
def test_an_answer_that_company_changed_is_found(change: Callable[[dict[str, Any]], object], said: str):
    outcome = compare(ALONE, tampered(change))
    assert not outcome.passed
    assert list(outcome.wrong) == [4]
    assert said in outcome.wrong[4]
    assert outcome.exchanged == ("another" in said)


def test_a_request_that_fails_in_company_is_found():
    outcome = compare(ALONE, tampered(lambda body: body, status=500))
    assert "status 500" in outcome.wrong[4]
    answers: list[Answer | Exception] = [answer(body) for body in ALONE]
    answers[2] = ConnectionResetError("gone")
    assert "ConnectionResetError: gone" in compare(ALONE, answers).wrong[2]


def test_answers_that_are_all_alike_prove_nothing():
    alike = [document(detection(1.0))] * 10
    assert not compare(alike, [answer(body) for body in alike]).passed


def test_answers_are_matched_with_their_requests_although_the_order_is_another(bright_pictures):
    plan = CompanyPlan("/detect", bright_pictures, 0.5, requests=40, concurrency=4)
    orders = []

    def ask(questions: list, concurrency: int) -> list[Answer | Exception]:
        orders.append([question.thresholds["iou_threshold"] for question in questions])
        # A server whose answers depend on nothing but the request.
        return [answer(document(detection(hash(question.request(1)) % 1000))) for question in questions]

    assert measure_company(plan, ask, lambda _: None).passed
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])
    assert len({tuple(question.thresholds.values()) for question in mixed_questions(plan)}) == 40


EXPECTED = {1: [[detection(5.0)]], 2: [[detection(11.0, 0.675, "other")]]}


def judged(body: dict[str, Any], header: str, status: int = 200) -> SwapOutcome:
    outcome = SwapOutcome()
    judge(answer(body, header=header, status=status), 0, EXPECTED, outcome)
    return outcome


def test_answers_wholly_of_either_version_pass():
    assert judged(document(*EXPECTED[1][0], version=1), "1").passed
    assert judged(document(*EXPECTED[2][0], version=2), "2").passed


@pytest.mark.parametrize(
    ("body", "header"),
    [
        (document(*EXPECTED[1][0], version=2), "2"),  # the detections of the other version
        (document(detection(11.0, 0.675, "red"), version=2), "2"),  # its graph, the other's labels
        (document(*EXPECTED[1][0], version=1), "2"),  # header and body disagree
        (document(*EXPECTED[1][0], version=3), "3"),  # a version that nobody swapped in
        (document(version=1), "1"),
    ],
)
def test_an_answer_of_two_minds_is_found(body: dict[str, Any], header: str):
    outcome = judged(body, header)
    assert len(outcome.mixed) == 1
    assert not outcome.passed


def test_a_failed_request_is_found():
    (failed,) = judged(document(), "1", status=503).failed
    assert failed.startswith('status 503: {"model": "tiny"')
    outcome = SwapOutcome()
    assert judge(TimeoutError("too long"), 0, EXPECTED, outcome) is None
    assert outcome.failed == ["TimeoutError: too long"]


def test_detections_differ_by_number_label_score_or_box():
    mine = [detection(5.0)]
    assert difference(mine, [detection(5.005, 0.90005)]) is None
    assert "2 detections" in str(difference(mine * 2, mine))
    assert "'red', expected 'blue'" in str(difference(mine, [detection(5.0, label="blue")]))
    assert "score" in str(difference(mine, [detection(5.0, 0.91)]))
    assert "0.500 px" in str(difference(mine, [detection(5.5)]))


def test_the_changed_graph_answers_otherwise_by_the_stated_amounts(repository: ModelRepository, tmp_path):
    import numpy as np

    original = repository.path("tiny", 1) / "model.onnx"
    (tmp_path / "changed.onnx").write_bytes(changed_graph(original.read_bytes()))
    images = np.random.default_rng(0).integers(0, 255, (2, 96, 96, 3), dtype=np.uint8)
    names = ["boxes", "scores", "labels"]
    before = open_session(str(original), 1).run(names, {"images": images})
    after = open_session(str(tmp_path / "changed.onnx"), 1).run(names, {"images": images})
    np.testing.assert_allclose(after[0], before[0] + BOX_SHIFT_PX)
    np.testing.assert_allclose(after[1], before[1] * SCORE_FACTOR, rtol=1e-6)
    np.testing.assert_array_equal(after[2], before[2])


def test_the_free_graph_takes_batches_and_tells_pictures_apart(repository: ModelRepository, tmp_path):
    import numpy as np

    (tmp_path / "free.onnx").write_bytes(free_graph(repository.manifest("tiny", 1)))
    images = np.stack([np.full((96, 96, 3), value, np.uint8) for value in (0, 255, 51)])
    boxes, scores, labels = open_session(str(tmp_path / "free.onnx"), 1).run(
        ["boxes", "scores", "labels"], {"images": images}
    )
    assert (boxes.shape, scores.shape, labels.shape) == ((3, 16, 4), (3, 16), (3, 16))
    assert scores[:, 0] == pytest.approx([0.98, 0.68, 0.92])  # 0.98 less 0.3 times the middle pixel
    assert (scores[:, :8] > 0.5).all()
    assert (scores[:, 8:] == 0).all()
