"""What the pictures of a run on streams show."""

import types

import cv2
import numpy as np
import pytest

from shared.metrics.stream_detection import SCALARS, StreamEvaluator
from shared.vision.boxes import Detections
from training.tasks.stream_detection_plots import (
    ShownWindow,
    average_precision,
    confusion,
    frame_picture,
    precision_recall,
    predictions,
    write_plots,
)
from training.tasks.task import Evaluation

NAMES = ["car", "tram"]
CAR, OTHER = (4, 6, 24, 26), (40, 10, 60, 40)
GROUND, WHITE, BLUE = [40, 42, 48], [250, 250, 250], [80, 150, 255]


def evaluation(windows=12):
    """A car that rests, found in every window but the last, and once where nothing is; no tram at all."""
    evaluator = StreamEvaluator(NAMES, (48, 64))
    examples = []
    for step in range(1, windows + 1):
        boxes = [] if step == windows else [CAR]
        boxes += [OTHER] if step == 1 else []
        found = Detections(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.linspace(0.9, 0.7, len(boxes), dtype=np.float32),
            np.zeros(len(boxes), np.int64),
        )
        at_rest = evaluator.add("street", step * 50_000, found, found.scores, [CAR], [0], [7])
        frame = np.zeros((4, 48, 64), np.uint8)
        window = ShownWindow(
            "street", step * 50_000, frame, np.array([CAR], np.float32), np.zeros(1, np.int64), at_rest
        )
        examples.append((window, found))
    result = evaluator.compute(0.5)
    numbers = {name: result[name] for name in SCALARS}
    curves = {name: value for name, value in result.items() if name not in SCALARS}
    return Evaluation(numbers, curves, examples[-3:], result["per_class"])


def heights(axes):
    return [bar.get_height() for bar in axes.patches]


def words(axes):
    return [piece.get_text() for piece in axes.texts]


def test_every_plot_is_written_as_a_picture(tmp_path):
    rows = [{"epoch": 0, "loss": 2.0, "val_loss": 3.0, "ap": None, "ap50": 0.1, "recall_at_rest": None}]
    paths = write_plots(
        types.SimpleNamespace(plots=tmp_path),
        rows,
        evaluation(),
        "val",
        types.SimpleNamespace(class_names=NAMES),
    )
    assert [path.name for path in paths] == [
        f"{name}.png" for name in ("loss", "pr", "ap", "confusion", "predictions")
    ]
    for path in paths:
        assert np.ptp(cv2.imread(str(path))) > 100, path.name


def test_bars_show_ap_by_class_and_by_size_and_recall_at_rest():
    classes, sizes, rest = average_precision(evaluation(), "val").axes
    # The car: 12 boxes, 11 found. Scores 0.9 (11 of them hits), then a false one with 0.7: precision 1 up to
    # recall 11/12, which is 92 of the 101 points.
    assert heights(classes) == pytest.approx([92 / 101, 0, 92 / 101, 0])
    assert words(classes) == ["0.91", "–", "0.91", "–"]
    assert [label.get_text() for label in classes.get_xticklabels()] == ["car\n12 boxes", "tram\n0 boxes"]
    assert words(sizes) == ["0.91", "–", "–"]  # 20 x 20 px is small
    assert heights(rest) == pytest.approx(
        [1, 1 / 2, 1, 1 / 2]
    )  # 10 moving; of the 2 at rest the last is missed
    assert [label.get_text() for label in rest.get_xticklabels()] == ["moving\n10 boxes", "at rest\n2 boxes"]


def test_precision_and_recall_of_each_class_with_the_serving_point():
    (axes,) = precision_recall(evaluation(), "val").axes
    curve, point, absent, _ = axes.lines
    assert curve.get_label() == "car: AP50 0.911, 12 boxes"
    assert (point.get_xdata()[0], point.get_ydata()[0]) == pytest.approx((11 / 12, 11 / 12))
    assert absent.get_label() == "tram: absent"


def test_confusion_as_counts_and_as_parts_of_rows():
    counts, parts = confusion(evaluation(), "val").axes
    assert words(counts) == ["11", "0", "1", "0", "0", "0", "1", "0", "–"]
    assert words(parts) == ["0.92", "0.00", "0.08", "", "", "", "1.00", "0.00", "–"]
    assert [label.get_text() for label in parts.get_yticklabels()] == ["car", "tram", "invented"]


def test_examples_stand_beside_their_predictions():
    figure = predictions(evaluation(), "val", NAMES)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == [
        "street, 0.50 s: 1 labels", "predictions: 1",
        "street, 0.55 s: 1 labels", "predictions: 1",
        "street, 0.60 s: 1 labels", "predictions: 0",
    ]  # fmt: skip
    without, at_rest, no_answer = (figure.axes[number].images[0].get_array() for number in (0, 2, 5))
    assert not np.array_equal(without, at_rest)  # the second has "at rest" at its box
    assert (np.asarray(no_answer) == GROUND).all()


def test_counts_are_drawn_by_the_more_frequent_polarity():
    frame = np.zeros((4, 1, 4), np.uint8)  # two bins of polarity 0, two of polarity 1
    frame[0, 0, 1], frame[1, 0, 1] = 200, 100  # 300 darker, which uint8 does not hold
    frame[2, 0, 1] = 60
    frame[3, 0, 2] = 1
    frame[1, 0, 3], frame[2, 0, 3] = 1, 1
    assert frame_picture(frame).tolist() == [[GROUND, BLUE, WHITE, WHITE]]


def test_signs_are_drawn_as_the_last_one_says():
    frame = np.zeros((3, 1, 4), np.int8)
    frame[:, 0, 1] = 1, -1, 0
    frame[:, 0, 2] = -5, 0, 7
    frame[:, 0, 3] = -1, 0, 0
    assert frame_picture(frame).tolist() == [[GROUND, BLUE, WHITE, BLUE]]


def test_counts_of_two_polarities_have_even_channels():
    with pytest.raises(ValueError, match="even number of channels, not 3"):
        frame_picture(np.zeros((3, 2, 2), np.uint8))
