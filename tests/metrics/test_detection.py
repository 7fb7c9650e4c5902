"""DetectionEvaluator against hand calculation, against pycocotools fed through files, and at the edges."""

import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from shared.metrics.detection import DetectionEvaluator
from shared.vision.boxes import Detections


def detections(*rows):
    """Rows of x1, y1, x2, y2, score[, label]."""
    return Detections(
        boxes=np.array([row[:4] for row in rows], dtype=np.float32).reshape(-1, 4),
        scores=np.array([row[4] for row in rows], dtype=np.float32),
        labels=np.array([row[5] if len(row) > 5 else 0 for row in rows], dtype=np.int64),
    )


def evaluator_with(*pictures, classes=("person",)):
    evaluator = DetectionEvaluator(list(classes))
    for number, (found, truth, *ignore) in enumerate(pictures):
        boxes = [row[:4] for row in truth]
        labels = [row[4] if len(row) > 4 else 0 for row in truth]
        evaluator.add(found, boxes, labels, ignore[0] if ignore else None, number)
    return evaluator


A, B, C = (10, 10, 50, 90), (100, 10, 140, 90), (10, 110, 50, 190)
NOWHERE = (150, 150, 190, 190)


def test_ap50_equals_the_hand_calculated_area():
    # Falling scores: hit, miss, hit; three truth boxes, one never found.
    # Precision at recall 1/3 is 1, at 2/3 it is 2/3, beyond that 0. COCO samples recall at 0, 0.01, … 1:
    # 34 points up to 0.33 with precision 1, 33 points from 0.34 to 0.66 with 2/3.
    evaluator = evaluator_with((detections((*A, 0.9), (*NOWHERE, 0.8), (*B, 0.7)), [A, B, C]))
    assert evaluator.compute()["ap50"] == pytest.approx((34 * 1 + 33 * 2 / 3) / 101, abs=1e-6)


def test_ap_averages_ten_iou_thresholds():
    # Width 40 of 50: IoU 0.8, a hit at 0.50 … 0.80, seven of the ten thresholds.
    evaluator = evaluator_with((detections((10, 10, 50, 90, 0.9)), [(10, 10, 60, 90)]))
    numbers = evaluator.compute()
    assert numbers["ap"] == pytest.approx(0.7)
    assert (numbers["ap50"], numbers["ap75"]) == pytest.approx((1.0, 1.0))
    assert numbers["ar"] == pytest.approx(0.7)


def test_numbers_equal_pycocotools_fed_through_coco_files(tmp_path):
    rng = np.random.default_rng(3)
    evaluator = DetectionEvaluator(["person", "dog"])
    images, annotations, results = [], [], []
    for number in range(1, 13):
        truth = _random_boxes(rng, int(rng.integers(1, 8)))
        labels = rng.integers(0, 2, len(truth))
        crowd = rng.random(len(truth)) < 0.15
        found = np.concatenate([truth + rng.normal(0, 4, truth.shape), _random_boxes(rng, 4)])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        found_labels = np.concatenate([labels, rng.integers(0, 2, 4)])
        scores = rng.random(len(found))
        picture = Detections(found.astype(np.float32), scores.astype(np.float32), found_labels)
        evaluator.add(picture, truth, labels, crowd, f"p{number}")
        images.append({"id": number, "width": 400, "height": 400})
        for box, label, is_crowd in zip(truth.tolist(), labels.tolist(), crowd.tolist(), strict=True):
            x1, y1, x2, y2 = box
            row = {"id": len(annotations) + 1, "image_id": number, "category_id": label + 1}
            row |= {
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": int(is_crowd),
            }
            annotations.append(row)
        for box, label, score in zip(
            picture.boxes.tolist(), found_labels.tolist(), picture.scores.tolist(), strict=True
        ):
            x1, y1, x2, y2 = box
            bbox = [x1, y1, x2 - x1, y2 - y1]
            results.append({"image_id": number, "category_id": label + 1, "bbox": bbox, "score": score})
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}]
    (tmp_path / "truth.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    (tmp_path / "found.json").write_text(json.dumps(results))
    truth = COCO(str(tmp_path / "truth.json"))
    reference = COCOeval(truth, truth.loadRes(str(tmp_path / "found.json")), "bbox")
    reference.evaluate()
    reference.accumulate()
    reference.summarize()

    numbers = evaluator.compute()
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
    ours = [-1 if numbers[name] is None else numbers[name] for name in names]
    assert ours == pytest.approx(reference.stats[:6].tolist(), abs=1e-6)
    assert numbers["ar"] == pytest.approx(reference.stats[8], abs=1e-6)
    assert 0.2 < numbers["ap"] < 0.95  # a case that could come out otherwise


def _random_boxes(rng, count):
    corner = rng.uniform(0, 250, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(8, 140, (count, 2))], axis=1).astype(np.float32)


def test_precision_recall_and_f1_at_the_threshold_by_hand():
    found = detections((*A, 0.9), (*NOWHERE, 0.8), (*B, 0.5), (*C, 0.2))
    numbers = evaluator_with((found, [A, B, C])).compute(score_threshold=0.5)
    assert (numbers["tp"], numbers["fp"], numbers["fn"]) == (2, 1, 1)
    assert numbers["precision"] == pytest.approx(2 / 3)
    assert numbers["recall"] == pytest.approx(2 / 3)
    assert numbers["f1"] == pytest.approx(2 / 3)
    assert numbers["best_f1"] == pytest.approx(2 * 3 / (4 + 3))  # all four kept
    assert numbers["best_f1_threshold"] == pytest.approx(0.2)
    assert numbers["pr_curve"]["recall"].tolist() == pytest.approx([1 / 3, 1 / 3, 2 / 3, 1])
    assert numbers["pr_curve"]["precision"].tolist() == pytest.approx([1, 1 / 2, 2 / 3, 3 / 4])


def test_a_second_detection_of_one_person_is_a_false_positive():
    numbers = evaluator_with((detections((*A, 0.9), (*A, 0.8)), [A])).compute()
    assert (numbers["tp"], numbers["fp"], numbers["fn"]) == (1, 1, 0)


def test_detections_in_a_crowd_region_count_neither_way():
    crowd = (100, 100, 200, 200)
    found = detections((*A, 0.9), (110, 110, 140, 190, 0.8), (150, 110, 180, 190, 0.7))
    numbers = evaluator_with((found, [A, crowd], [False, True])).compute()
    assert (numbers["tp"], numbers["fp"], numbers["fn"], numbers["truths"]) == (1, 0, 0, 1)
    assert numbers["ap"] == pytest.approx(1.0)
    assert numbers["confusion"].tolist() == [[1, 0], [0, 0]]


def test_confusion_has_rows_of_truth_and_columns_of_prediction():
    found = detections((*A, 0.9, 1), (*B, 0.8, 0), (*NOWHERE, 0.7, 1), (*C, 0.3, 0))
    numbers = evaluator_with((found, [(*A, 0), (*B, 0), (*C, 1)]), classes=("person", "dog")).compute(0.5)
    # person taken for dog, person found; dog missed (below the threshold); a dog invented.
    assert numbers["confusion"].tolist() == [[1, 1, 0], [0, 0, 1], [0, 1, 0]]


def test_one_class_confusion_repeats_the_counts_of_the_threshold():
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(10):
        truth = _random_boxes(rng, 5)
        boxes = np.concatenate([truth + rng.normal(0, 8, truth.shape), _random_boxes(rng, 3)])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        pictures.append(
            (detections(*[(*box, score) for box, score in zip(boxes, rng.random(8), strict=True)]), truth)
        )
    numbers = evaluator_with(*[(found, [tuple(box) for box in truth]) for found, truth in pictures]).compute(
        0.4
    )
    assert numbers["confusion"].tolist() == [[numbers["tp"], numbers["fn"]], [numbers["fp"], 0]]
    assert numbers["tp"] > 0
    assert numbers["fp"] > 0
    assert numbers["fn"] > 0


def test_a_size_without_truth_has_no_number():
    numbers = evaluator_with((detections((*A, 0.9)), [A])).compute()
    assert numbers["ap_medium"] == pytest.approx(1.0)  # 40 × 80 pixels
    assert numbers["ap_small"] is None
    assert numbers["ap_large"] is None


def test_pictures_without_people_count_only_inventions():
    numbers = evaluator_with((detections((*A, 0.9)), [])).compute()
    assert numbers["ap"] is None
    assert (numbers["tp"], numbers["fp"], numbers["fn"]) == (0, 1, 0)


def test_a_model_that_finds_nothing_has_zero_not_none():
    numbers = evaluator_with((detections(), [A])).compute()
    assert (numbers["ap"], numbers["ap50"], numbers["ar"], numbers["f1"], numbers["best_f1"]) == (
        0,
        0,
        0,
        0,
        0,
    )
    assert numbers["fn"] == 1


def test_an_empty_evaluation_and_bad_input_are_refused():
    evaluator = DetectionEvaluator(["person"])
    with pytest.raises(ValueError, match="no picture was added"):
        evaluator.compute()
    with pytest.raises(ValueError, match="not finite"):
        evaluator.add(detections((*A, float("nan"))), [], [], None, 1)
    with pytest.raises(ValueError, match="there are 1 classes"):
        evaluator.add(detections((*A, 0.5, 1)), [], [], None, 1)
    with pytest.raises(ValueError, match="2 labels"):
        evaluator.add(detections(), [A], [0, 0], None, 1)
    evaluator.add(detections(), [A], [0], None, 1)
    with pytest.raises(ValueError, match="added before"):
        evaluator.add(detections(), [A], [0], None, 1)
    assert len(evaluator) == 1


def test_reset_forgets_every_picture():
    evaluator = evaluator_with((detections((*NOWHERE, 0.9)), [A]))
    evaluator.reset()
    evaluator.add(detections((*A, 0.9)), [A], [0], None, 0)
    assert evaluator.compute()["ap"] == pytest.approx(1.0)
