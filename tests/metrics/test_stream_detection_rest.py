"""Which truth is at rest, and recall of it, by hand."""

import numpy as np
import pytest

from shared.metrics.stream_detection import StreamEvaluator
from shared.metrics.stream_protocol import Protocol
from shared.vision.boxes import Detections

SIZE = (120, 160)
HERE, THERE, FAR = (10, 10, 40, 50), (12, 10, 42, 50), (90, 60, 130, 100)
STEP_US = 50_000


def nothing():
    return Detections.empty()


def found(*rows):
    return Detections(
        np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.float32),
        np.zeros(len(rows), np.int64),
    )


def play(evaluator, windows, sequence="a", start=1):
    """Windows 50 ms apart: (detections, {track: box}). Returns whether each track is at rest, by window."""
    rest = []
    for step, (detections, tracks) in enumerate(windows, start=start):
        at_rest = evaluator.add(
            sequence,
            step * STEP_US,
            detections,
            detections.scores,
            list(tracks.values()),
            [0] * len(tracks),
            list(tracks),
        )
        rest.append(dict(zip(tracks, at_rest.tolist(), strict=True)))
    return rest


def test_a_track_is_at_rest_once_its_box_was_the_same_for_half_a_second():
    rest = play(StreamEvaluator(["car"], SIZE), [(nothing(), {7: HERE})] * 12)
    assert [window[7] for window in rest] == [False] * 10 + [True] * 2  # 0.05 s to 0.55 s are 0.5 s


def test_the_smallest_move_starts_anew():
    moved = (HERE[0] + 1e-3, *HERE[1:])
    windows = [(nothing(), {7: HERE})] * 11 + [(nothing(), {7: moved})] * 11
    rest = [window[7] for window in play(StreamEvaluator(["car"], SIZE), windows)]
    assert np.flatnonzero(rest).tolist() == [10, 21]


def test_a_window_without_the_track_starts_anew():
    windows = [(nothing(), {7: HERE})] * 8 + [(nothing(), {})] + [(nothing(), {7: HERE})] * 11
    rest = [window.get(7, False) for window in play(StreamEvaluator(["car"], SIZE), windows)]
    assert np.flatnonzero(rest).tolist() == [19]


def test_another_track_at_the_same_place_has_not_rested_there():
    windows = [(nothing(), {7: HERE})] * 10 + [(nothing(), {8: HERE})] * 2
    assert not any(
        rest for window in play(StreamEvaluator(["car"], SIZE), windows) for rest in window.values()
    )


def test_recordings_added_in_turns_are_told_apart():
    evaluator = StreamEvaluator(["car"], SIZE)
    for step in range(1, 12):
        (first,) = play(evaluator, [(nothing(), {7: HERE})], "a", step)
        (second,) = play(evaluator, [(nothing(), {7: HERE if step % 2 else THERE})], "b", step)
    assert (first[7], second[7]) == (True, False)


def test_how_long_is_rest_can_be_said():
    rest = play(StreamEvaluator(["car"], SIZE, rest_s=0.1), [(nothing(), {7: HERE})] * 4)
    assert [window[7] for window in rest] == [False, False, True, True]
    with pytest.raises(ValueError, match="rest_s"):
        StreamEvaluator(["car"], SIZE, rest_s=0)


def resting_and_moving(protocol=None):
    """14 windows: track 1 stays (at rest in the last 4), track 2 moves all the time (14 moving boxes).

    Track 1 is found in windows 11, 12 with 0.8 and in 13 with 0.3, not in 14; track 2 always, with 0.6.
    """
    evaluator = StreamEvaluator(["car"], SIZE, protocol=protocol)
    windows = []
    for step in range(14):
        other = (60 + step, 60, 90 + step, 100)
        scores = {10: 0.8, 11: 0.8, 12: 0.3}
        rows = [(HERE, scores[step])] if step in scores else []
        windows.append((found(*rows, (other, 0.6)), {1: HERE, 2: other}))
    play(evaluator, windows)
    return evaluator


def test_recall_at_rest_and_moving_at_the_threshold_and_at_the_best_one():
    numbers = resting_and_moving().compute(0.5)
    assert (numbers["boxes_at_rest"], numbers["boxes_moving"]) == (4, 24)
    assert numbers["recall_at_rest"] == pytest.approx(2 / 4)
    assert numbers["recall_moving"] == pytest.approx(14 / 24)
    # Nothing is false, so that F1 is best with all detections, down to 0.3.
    assert numbers["best_f1_threshold"] == pytest.approx(0.3)
    assert numbers["recall_at_rest_best"] == pytest.approx(3 / 4)
    assert numbers["recall_moving_best"] == pytest.approx(14 / 24)
    assert resting_and_moving().compute(0.7)["recall_moving"] == 0.0


def test_rest_is_seen_also_in_windows_that_do_not_count():
    protocol = Protocol(skip_us=600_000)  # windows 13 and 14 are left, with rest since window 1
    numbers = resting_and_moving(protocol).compute(0.1)
    assert (numbers["boxes_at_rest"], numbers["boxes_moving"]) == (2, 2)
    assert numbers["recall_at_rest"] == pytest.approx(1 / 2)


def test_a_poor_overlap_or_another_class_does_not_find_a_box_at_rest():
    evaluator = StreamEvaluator(["car", "tram"], SIZE)
    half_beside = (10, 10, 40, 29)  # 30 x 19 of 30 x 40: IoU 0.475
    for step in range(1, 13):
        detections = found((half_beside, 0.9)) if step == 11 else found((HERE, 0.9))
        if step == 12:
            detections = Detections(detections.boxes, detections.scores, np.ones(1, np.int64))
        evaluator.add("a", step * STEP_US, detections, [0.9], [HERE], [0], [7])
    numbers = evaluator.compute(0.5)
    assert (numbers["boxes_at_rest"], numbers["recall_at_rest"]) == (2, 0.0)
    assert numbers["recall_moving"] == 1.0


def test_without_boxes_at_rest_there_is_no_recall_of_them():
    evaluator = StreamEvaluator(["car"], SIZE)
    play(evaluator, [(found((HERE, 0.9)), {7: HERE}), (found((FAR, 0.9)), {7: FAR})])
    numbers = evaluator.compute()
    assert (numbers["recall_at_rest"], numbers["recall_at_rest_best"], numbers["boxes_at_rest"]) == (
        None,
        None,
        0,
    )
    assert numbers["recall_moving"] == 1.0
