"""Numbers of detectors whose answers are known beforehand."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from shared.data.dataset import DetectionRecord
from shared.families.family import DetectionFamily
from shared.vision.letterbox import fit_letterbox
from training.tasks.detection_evaluation import EvaluationBatch, evaluate


class Answer(nn.Module):
    """A network that answers the same boxes for every image."""

    def __init__(self, boxes, scores):
        super().__init__()
        self.boxes, self.scores = torch.tensor(boxes), torch.tensor(scores)

    def forward(self, images):
        assert images.shape[1] == 3
        assert 0 <= images.min() <= images.max() <= 1
        count = len(images)
        return self.boxes.expand(count, -1, -1), self.scores.expand(count, -1)


FAMILY = DetectionFamily(
    name="fixed",
    task="detection",
    config=None,
    build=None,
    encode_targets=None,
    loss=lambda config, outputs, targets: {"loss": torch.tensor(2.5)},
    decode=lambda config, outputs: (*outputs, torch.zeros(outputs[1].shape, dtype=torch.int64)),
    default_thresholds=lambda config: {"score_threshold": 0.5, "iou_threshold": 0.5, "max_detections": 100},
    class_names=lambda config: ["person"],
    input_size=lambda config: (100, 100),
)


def numbers(boxes, scores):
    """Evaluate on one image of 200 x 100 px, letterboxed to 100 x 100, with one person."""
    truth = np.array([[20, 10, 60, 90]], np.float32)
    none = np.zeros(1, bool)
    record = DetectionRecord(None, 200, 100, truth, np.zeros(1, np.int64), none, 1)
    images = torch.full((1, 100, 100, 3), 255, dtype=torch.uint8)
    targets = SimpleNamespace(to=lambda device: None)
    batch = EvaluationBatch(images, [record], [fit_letterbox((100, 200), (100, 100))], targets)
    network = Answer(boxes, scores)
    result = evaluate(FAMILY, None, network, partial(FAMILY.loss, None), [batch], device=torch.device("cpu"))
    assert network.training, "it is put back into the mode that it was in"
    return result.numbers


# The letterbox halves the image and puts 25 rows above it.
RIGHT = [10.0, 30.0, 30.0, 70.0]


def test_a_right_box_in_network_pixels_is_right_in_source_pixels():
    found = numbers([RIGHT], [0.9])
    assert (found["ap"], found["ap50"], found["precision"], found["recall"]) == pytest.approx((1, 1, 1, 1))
    assert found["loss"] == 2.5


def test_a_second_box_on_the_same_person_is_suppressed():
    assert numbers([RIGHT, [11.0, 30.0, 30.0, 70.0]], [0.9, 0.8])["precision"] == 1


def test_ap_counts_candidates_below_the_serving_threshold_and_precision_does_not():
    found = numbers([RIGHT], [0.01])
    assert found["ap50"] == pytest.approx(1)
    assert (found["precision"], found["recall"]) == (0, 0)


def test_candidates_below_a_thousandth_do_not_count():
    assert numbers([RIGHT], [0.0005])["ap50"] == 0


def test_a_wrong_box_finds_nobody():
    assert numbers([[60.0, 30.0, 90.0, 70.0]], [0.9])["ap50"] == 0
