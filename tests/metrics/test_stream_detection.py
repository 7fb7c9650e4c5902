"""StreamEvaluator against pycocotools fed through files, and against hand calculation."""

import contextlib
import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from shared.metrics.stream_detection import SCALARS, StreamEvaluator
from shared.metrics.stream_protocol import PROPHESEE_GEN4_HALF, Protocol
from shared.vision.boxes import Detections

SIZE = (360, 640)
NAMES = ["pedestrian", "vehicle", "micro", "tram"]
A, B, C = (10, 10, 50, 90), (100, 10, 140, 90), (10, 110, 50, 190)
NOWHERE = (300, 200, 340, 280)
_COLUMNS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


def found(*rows):
    """Rows of box, score[, label]."""
    return Detections(
        boxes=np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        scores=np.array([row[1] for row in rows], np.float32),
        labels=np.array([row[2] if len(row) > 2 else 0 for row in rows], np.int64),
    )


def add(evaluator, time_us, detections, truth, tracks=None, probability=None, sequence="a"):
    """Truth: rows of box[, label]; tracks and probabilities are numbered, and the scores, unless given."""
    return evaluator.add(
        sequence,
        time_us,
        detections,
        detections.scores if probability is None else probability,
        [row[:4] for row in truth],
        [row[4] if len(row) > 4 else 0 for row in truth],
        range(len(truth)) if tracks is None else tracks,
    )


def random_windows(seed, count=60):
    """Windows of two recordings, some empty: (sequence, time, boxes, labels, found boxes, …)."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        sequence, time_us = f"r{number % 2}", 100_000 * (1 + number // 2)
        truth = _random_boxes(rng, 0 if number % 7 == 0 else int(rng.integers(1, 6)))
        labels = rng.integers(0, 4, len(truth))
        boxes = np.concatenate([truth + rng.normal(0, 3, truth.shape), _random_boxes(rng, 8)])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 2)
        found_labels = np.concatenate([labels, rng.integers(0, 4, 8)])
        probability = rng.random(len(boxes)).astype(np.float32)
        score = (probability * rng.random(len(boxes))).astype(np.float32)
        detections = Detections(boxes.astype(np.float32), score, found_labels)
        yield sequence, time_us, truth.astype(np.float32), labels, detections, probability


def _random_boxes(rng, count):
    corner = rng.uniform(0, 250, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(5, 130, (count, 2))], axis=1)


def coco(folder, images, annotations, results, categories, only=None):
    """pycocotools' own twelve numbers, read from files."""
    rows = [
        {"id": n, "image_id": image, "category_id": label + 1, "bbox": xywh, "area": xywh[2] * xywh[3]}
        | {"iscrowd": 0}
        for n, (image, label, xywh) in enumerate(annotations, start=1)
    ]
    described = [{"id": label + 1, "name": NAMES[label]} for label in categories]
    (folder / "truth.json").write_text(
        json.dumps({"images": [{"id": i} for i in images], "annotations": rows, "categories": described})
    )
    (folder / "found.json").write_text(
        json.dumps(
            [
                {"image_id": image, "category_id": label + 1, "bbox": xywh, "score": score}
                for image, label, xywh, score in results
            ]
        )
    )
    truth = COCO(str(folder / "truth.json"))
    evaluation = COCOeval(truth, truth.loadRes(str(folder / "found.json")), "bbox")
    if only is not None:
        evaluation.params.catIds = [only + 1]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return [*evaluation.stats[:6].tolist(), evaluation.stats[8]]


def ours(numbers):
    return [-1 if numbers[name] is None else numbers[name] for name in (*_COLUMNS, "ar")]


def xywh_of(box):
    return [float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])]


def test_all_windows_and_classes_equal_pycocotools_fed_through_files(tmp_path):
    evaluator = StreamEvaluator(NAMES, SIZE)
    images, annotations, results = [], [], []
    for image, (sequence, time_us, truth, labels, detections, probability) in enumerate(random_windows(3)):
        evaluator.add(sequence, time_us, detections, probability, truth, labels, range(len(truth)))
        images.append(image + 1)
        annotations += [(image + 1, int(k), xywh_of(b)) for b, k in zip(truth, labels, strict=True)]
        results += [
            (image + 1, int(k), xywh_of(b), float(s))
            for b, k, s in zip(detections.boxes, detections.labels, detections.scores, strict=True)
        ]
    numbers = evaluator.compute()
    expected = coco(tmp_path, images, annotations, results, range(4))
    assert ours(numbers) == pytest.approx(expected, abs=1e-9)
    assert 0.05 < numbers["ap"] < 0.9  # a case that could come out otherwise
    for label, name in enumerate(NAMES):
        expected = coco(tmp_path, images, annotations, results, range(4), only=label)
        assert ours(numbers["per_class"][name]) == pytest.approx(expected, abs=1e-9)
        assert numbers["per_class"][name]["boxes"] == sum(row[1] == label for row in annotations)


def test_the_published_protocol_equals_pycocotools_on_data_filtered_here(tmp_path):
    """The filters, the ±50 ms, the ranking and the three categories are written out again, box by box."""
    evaluator = StreamEvaluator(NAMES, SIZE, protocol=PROPHESEE_GEN4_HALF)
    recordings = {}
    for sequence, time_us, truth, labels, detections, probability in random_windows(5):
        evaluator.add(sequence, time_us, detections, probability, truth, labels, range(len(truth)))
        kept = recordings.setdefault(sequence, ([], []))
        for box, label in zip(truth, labels, strict=True):
            kept[0].append((time_us, int(label), xywh_of(box)))
        for box, label, rank in zip(detections.boxes, detections.labels, probability, strict=True):
            kept[1].append((time_us, int(label), xywh_of(box), float(rank)))

    def counts(row):
        time_us, _, (_, _, w, h), *_ = row
        return time_us > 500_000 and w * w + h * h >= 30**2 and w >= 10 and h >= 10

    images, annotations, results = [], [], []
    for truth, candidates in recordings.values():
        truth, candidates = list(filter(counts, truth)), list(filter(counts, candidates))
        for time_us in sorted({row[0] for row in truth}):
            images.append(len(images) + 1)
            annotations += [(images[-1], row[1], row[2]) for row in truth if row[0] == time_us]
            results += [(images[-1], *row[1:]) for row in candidates if abs(row[0] - time_us) <= 50_000]
    annotations = [row for row in annotations if row[1] < 3]
    results = [row for row in results if row[1] < 3]
    numbers = evaluator.compute()
    expected = coco(tmp_path, images, annotations, results, range(3))
    assert ours(numbers) == pytest.approx(expected, abs=1e-9)
    assert (numbers["frames"], numbers["truths"]) == (len(images), len(annotations))
    assert list(numbers["per_class"]) == numbers["class_names"] == NAMES[:3]
    plain = StreamEvaluator(NAMES, SIZE)
    for window in random_windows(5):
        sequence, time_us, truth, labels, detections, probability = window
        plain.add(sequence, time_us, detections, probability, truth, labels, range(len(truth)))
    assert abs(plain.compute()["ap"] - numbers["ap"]) > 0.01  # the quirks are not without effect


# Half of the truth found without a false detection: precision 1 at recall 0, 0.01 … 0.5, 51 of 101 points.
HALF_FOUND = 51 / 101


def ap50(protocol, *windows, names=NAMES[:1]):
    evaluator = StreamEvaluator(names, SIZE, protocol=protocol)
    for time_us, detections, truth, *probability in windows:
        add(evaluator, time_us, detections, truth, probability=probability[0] if probability else None)
    return evaluator.compute()["ap50"]


def test_what_is_not_later_than_half_a_second_can_be_left_out():
    windows = [(500_000, found(), [A]), (500_001, found((A, 0.9)), [A])]
    assert ap50(Protocol(), *windows) == pytest.approx(HALF_FOUND)
    assert ap50(Protocol(skip_us=500_000), *windows) == pytest.approx(1.0)
    assert ap50(Protocol(skip_us=499_999), *windows) == pytest.approx(HALF_FOUND)


@pytest.mark.parametrize(
    ("protocol", "dropped", "kept"),
    [
        (Protocol(min_side_px=10), (200, 100, 209, 190), (200, 100, 210, 190)),
        (Protocol(min_side_px=10), (200, 100, 290, 109), (200, 100, 290, 110)),
        (Protocol(min_diagonal_px=30), (200, 100, 218, 123), (200, 100, 218, 124)),  # 18² + 24² = 30²
    ],
)
def test_boxes_below_a_minimum_can_be_left_out_of_truth_and_detections(protocol, dropped, kept):
    for small, with_minimum in ((dropped, 1.0), (kept, HALF_FOUND)):
        missed = (50_000, found((A, 0.9)), [A, small])
        assert ap50(Protocol(), missed) == pytest.approx(HALF_FOUND)
        assert ap50(protocol, missed) == pytest.approx(with_minimum)
    # a better-scored false detection halves the precision at every recall
    for small, with_minimum in ((dropped, 1.0), (kept, 0.5)):
        invented = (50_000, found((small, 0.95), (A, 0.9)), [A])
        assert ap50(Protocol(), invented) == pytest.approx(0.5)
        assert ap50(protocol, invented) == pytest.approx(with_minimum)


def test_a_width_that_float32_rounds_below_the_minimum_is_kept():
    left = np.float32(246.3)
    box = (left, 100, np.float32(left + np.float32(10)), 190)
    assert np.float32(box[2]) - left < 10
    assert ap50(Protocol(min_side_px=10), (50_000, found(), [box])) == 0.0  # missed, not left out


def test_ranking_by_class_probability_leaves_objectness_out():
    # The hit scores 0.3 of probability 0.9, the false detection 0.6 of 0.7.
    window = (50_000, found((A, 0.3), (NOWHERE, 0.6)), [A], [0.9, 0.7])
    assert ap50(Protocol(), window) == pytest.approx(0.5)
    assert ap50(Protocol(ranking="class_probability"), window) == pytest.approx(1.0)


def test_thresholds_go_by_score_whatever_the_ranking():
    evaluator = StreamEvaluator(NAMES[:1], SIZE, protocol=Protocol(ranking="class_probability"))
    add(evaluator, 50_000, found((A, 0.3), (NOWHERE, 0.6)), [A], probability=[0.9, 0.7])
    numbers = evaluator.compute(0.5)
    assert (numbers["tp"], numbers["fp"], numbers["fn"]) == (0, 1, 1)
    assert numbers["confusion"].tolist() == [[0, 1], [1, 0]]
    assert numbers["best_f1_threshold"] == pytest.approx(0.3)


def test_windows_without_truth_can_be_dropped():
    windows = [(50_000, found((NOWHERE, 0.95)), []), (100_000, found((A, 0.9)), [A])]
    assert ap50(Protocol(), *windows) == pytest.approx(0.5)
    assert ap50(Protocol(frames_without_truth="drop"), *windows) == pytest.approx(1.0)


def test_a_window_whose_truth_is_all_too_small_is_one_without_truth():
    windows = [(50_000, found((NOWHERE, 0.95)), [(0, 0, 5, 5)]), (100_000, found((A, 0.9)), [A])]
    assert ap50(Protocol(min_side_px=10), *windows) == pytest.approx(0.5)
    assert ap50(Protocol(min_side_px=10, frames_without_truth="drop"), *windows) == pytest.approx(1.0)


def test_the_first_classes_alone_can_be_evaluated():
    boxes = [(10 + 60 * label, 10, 50 + 60 * label, 90) for label in range(4)]
    truth = [(*box, label) for label, box in enumerate(boxes)]
    window = (50_000, found(*((boxes[label], 0.9, label) for label in range(3))), truth)
    assert ap50(Protocol(), window, names=NAMES) == pytest.approx(3 / 4)
    assert ap50(Protocol(first_classes=3), window, names=NAMES) == pytest.approx(1.0)


def test_truth_of_other_classes_still_keeps_a_window():
    protocol = Protocol(first_classes=3, frames_without_truth="drop")
    windows = [(50_000, found((NOWHERE, 0.95)), [(*B, 3)]), (100_000, found((A, 0.9)), [A])]
    assert ap50(protocol, *windows, names=NAMES) == pytest.approx(0.5)


def test_detections_of_neighbouring_windows_can_count():
    windows = [(50_000, found((A, 0.9)), []), (100_000, found(), [A])]
    assert ap50(Protocol(frames_without_truth="drop"), *windows) == 0.0
    for tolerance_us, expected in ((49_999, 0.0), (50_000, 1.0)):
        protocol = Protocol(frames_without_truth="drop", time_tolerance_us=tolerance_us)
        assert ap50(protocol, *windows) == pytest.approx(expected)
        assert ap50(protocol, (50_000, *windows[1][1:]), (100_000, *windows[0][1:])) == pytest.approx(
            expected
        )


def test_recordings_do_not_lend_each_other_detections():
    evaluator = StreamEvaluator(["car"], SIZE, protocol=Protocol(time_tolerance_us=50_000))
    add(evaluator, 50_000, found((A, 0.9)), [], sequence="a")
    add(evaluator, 50_000, found(), [A], sequence="b")
    assert evaluator.compute()["ap50"] == 0.0


def test_at_most_a_hundred_detections_of_a_class_and_window_count():
    crowd = [((300 + n, 200, 340 + n, 280), 0.9 - n / 1000) for n in range(99)]
    assert ap50(Protocol(), (50_000, found(*crowd, (A, 0.1)), [A])) == pytest.approx(1 / 100)
    assert ap50(Protocol(), (50_000, found(*crowd, (NOWHERE, 0.7), (A, 0.1)), [A])) == 0.0


def test_precision_recall_and_f1_by_hand_overall_and_by_class():
    evaluator = StreamEvaluator(["car", "tram", "bus"], SIZE)
    detections = found((A, 0.9, 0), (NOWHERE, 0.8, 0), (B, 0.7, 1), (C, 0.2, 0))
    add(evaluator, 50_000, detections, [(*A, 0), (*B, 1), (*C, 0)])
    numbers = evaluator.compute(0.7)  # 0.7 as float32 lies below 0.7
    assert (numbers["tp"], numbers["fp"], numbers["fn"]) == (2, 1, 1)
    assert [numbers[name] for name in ("precision", "recall", "f1")] == pytest.approx([2 / 3] * 3)
    assert numbers["best_f1"] == pytest.approx(2 * 3 / (4 + 3))
    assert numbers["best_f1_threshold"] == pytest.approx(0.2)
    car, tram, bus = (numbers["per_class"][name] for name in ("car", "tram", "bus"))
    assert [car[name] for name in ("precision", "recall", "f1", "boxes")] == pytest.approx([0.5, 0.5, 0.5, 2])
    assert [tram[name] for name in ("precision", "recall", "f1", "boxes")] == pytest.approx([1, 1, 1, 1])
    assert (bus["ap"], bus["precision"], bus["recall"], bus["f1"], bus["boxes"]) == (None,) * 4 + (0,)
    assert numbers["confusion"].tolist() == [[1, 0, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]]
    normalised = numbers["confusion_normalised"]
    assert normalised[[0, 1, 3]].tolist() == [[0.5, 0, 0, 0.5], [0, 1, 0, 0], [1, 0, 0, 0]]
    assert np.isnan(normalised[2]).all()


def test_windows_without_any_truth_leave_recall_undefined():
    evaluator = StreamEvaluator(["car"], SIZE)
    add(evaluator, 50_000, found(), [])
    numbers = evaluator.compute()
    assert {name: numbers[name] for name in SCALARS} == dict.fromkeys(SCALARS)
    add(evaluator, 100_000, found((A, 0.9)), [])
    numbers = evaluator.compute()
    assert (numbers["precision"], numbers["f1"], numbers["recall"], numbers["ap"]) == (0.0, 0.0, None, None)


def test_truth_that_nothing_was_found_of_has_recall_zero():
    evaluator = StreamEvaluator(["car"], SIZE)
    add(evaluator, 50_000, found(), [A])
    numbers = evaluator.compute()
    assert (numbers["ap"], numbers["recall"], numbers["f1"], numbers["best_f1"]) == (0.0, 0.0, 0.0, 0.0)
    assert (numbers["precision"], numbers["best_f1_threshold"]) == (None, None)
    assert (numbers["recall_moving"], numbers["recall_moving_best"]) == (0.0, 0.0)


def test_a_protocol_that_leaves_nothing_over_gives_no_numbers():
    evaluator = StreamEvaluator(["car"], SIZE, protocol=Protocol(skip_us=500_000))
    add(evaluator, 50_000, found((A, 0.9)), [A])
    numbers = evaluator.compute()
    assert numbers["frames"] == 0
    assert {name: numbers[name] for name in SCALARS} == dict.fromkeys(SCALARS)


def test_nothing_added_is_an_error():
    evaluator = StreamEvaluator(["car"], SIZE)
    with pytest.raises(ValueError, match="no window was added"):
        evaluator.compute()
    add(evaluator, 50_000, found(), [A])
    evaluator.reset()
    assert len(evaluator) == 0
    with pytest.raises(ValueError, match="no window was added"):
        evaluator.compute()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time_us": 50_000}, "at 50000 us of 'a' comes after the one at 50000 us"),
        ({"time_us": 49_000}, "in order of time"),
        ({"labels": [4]}, r"truth labels \[4\], but there are 4 classes: pedestrian"),
        ({"labels": [-1]}, r"truth labels \[-1\]"),
        ({"detections": found((A, 0.5, 7))}, r"detection labels \[7\]"),
        ({"labels": [0, 1]}, "1 boxes, 2 labels, 1 track ids"),
        ({"track_ids": []}, "1 boxes, 1 labels, 0 track ids"),
        ({"class_probability": [0.5, 0.5]}, "1 detections came with 2 class probabilities"),
        ({"class_probability": [np.nan]}, "class probability is not finite"),
        ({"detections": found((A, np.nan))}, "score is not finite"),
        ({"boxes": [(0, 0, np.inf, 5)]}, "truth box is not finite"),
        ({"boxes": [(700, 10, 720, 30)]}, "outside the 360 x 640 frame"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(change, message):
    evaluator = StreamEvaluator(NAMES, SIZE)
    add(evaluator, 50_000, found((A, 0.9)), [A])
    window = {"sequence": "a", "time_us": 100_000, "detections": found((B, 0.5)), "class_probability": [0.5]}
    window |= {"boxes": [A], "labels": [0], "track_ids": [0]}
    with pytest.raises(ValueError, match=message):
        evaluator.add(**window | change)
    assert len(evaluator) == 1
    evaluator.add(**window)
    assert len(evaluator) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"skip_us": -1},
        {"min_side_px": -1},
        {"first_classes": 0},
        {"ranking": "objectness"},
        {"frames_without_truth": "maybe"},
    ],
)
def test_a_protocol_without_meaning_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Protocol(**wrong)


DOCUMENT = (
    (Path(__file__).parents[2] / "docs" / "families" / "events.md").read_text().split("## Evaluation")[1]
)


def test_the_documented_example_prints_what_is_said():
    code = re.findall(r"```python\n(.*?)```", DOCUMENT, flags=re.DOTALL)[0]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {})
    assert printed.getvalue().strip() == re.findall(r"print\(.*  # (.*)", code)[0]


def test_every_switch_is_documented():
    assert all(f"`{switch.name}`" in DOCUMENT for switch in dataclasses.fields(Protocol))
