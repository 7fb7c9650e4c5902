"""What the pictures of a run count."""

import numpy as np
import pytest

from shared.data.dataset import DetectionRecord, DetectionSet
from training.tasks.detection_plots import label_statistics


def test_regions_to_ignore_are_not_counted_as_boxes():
    boxes = np.array([[0, 0, 10, 20], [0, 0, 100, 100]], np.float32)
    labels, ignore = np.zeros(2, np.int64), np.array([False, True])
    records = [DetectionRecord(None, 100, 100, boxes, labels, ignore, number) for number in range(3)]
    sizes, _, counts = label_statistics(DetectionSet(records, ["person"], "memory")).axes
    assert sizes.get_title() == "3 boxes"
    assert sizes.collections[0].get_offsets().tolist() == [pytest.approx([0.1, 0.2])] * 3
    assert {bar.get_height() for bar in counts.patches if bar.get_x() > 0} == {3}
