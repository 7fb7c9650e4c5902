"""From raw maps to boxes, and what is left of them."""

import math

import pytest
import torch

from shared.families.events.decode import FARTHEST_PX, candidates, decode_cells, postprocess


def test_a_cell_by_hand(small_config):
    config = small_config()
    maps = [torch.zeros(1, 7, *size) for size in config.level_sizes]
    # Level 1, stride 16, row 3, column 2: cell 96 + 3·6 + 2
    maps[1][0, :, 3, 2] = torch.tensor(
        [0.25, -1.0, math.log(2), math.log(0.5), 0.0, math.log(3), -math.log(3)]
    )
    decoded = decode_cells(maps, config.level_strides)
    expected = [(0.25 + 2) * 16, (-1 + 3) * 16, 2 * 16, 0.5 * 16, 0.5, 0.75, 0.25]
    assert decoded[0, 96 + 3 * 6 + 2].tolist() == pytest.approx(expected, rel=1e-6)
    assert decoded[0, 0].tolist() == pytest.approx([0, 0, 8, 8, 0.5, 0.5, 0.5])
    assert decoded[0, -1].tolist() == pytest.approx([2 * 32, 1 * 32, 32, 32, 0.5, 0.5, 0.5])


def test_the_grid_follows_the_maps(small_config):
    """A cached grid would break at a second resolution."""
    strides = small_config().level_strides
    for height, width in ((64, 96), (96, 64), (64, 96)):
        maps = [torch.zeros(1, 7, height // stride, width // stride) for stride in strides]
        decoded = decode_cells(maps, strides)
        assert decoded[0, width // 8, :2].tolist() == [0, 8]  # the second row of the first level


def test_large_boxes_leave_half_precision(small_config):
    config = small_config()
    maps = [torch.full((1, 7, *size), 12.0, dtype=torch.float16) for size in config.level_sizes]
    decoded = decode_cells(maps, config.level_strides)
    assert decoded.dtype == torch.float32
    assert decoded[0, 0, 2].item() == pytest.approx(8 * math.exp(12), rel=1e-5)


def window(*rows):
    """Decoded cells of one window with two classes."""
    return torch.tensor([rows], dtype=torch.float32)


def test_candidates_are_ranked_by_objectness_and_class(small_config):
    config = small_config(top_k=2)
    decoded = torch.zeros(1, config.cell_count, 7)
    decoded[0, 5] = torch.tensor([10, 20, 4, 6, 0.5, 0.2, 0.9])
    decoded[0, 70] = torch.tensor([30, 20, 4, 6, 0.9, 0.6, 0.1])
    decoded[0, 71] = torch.tensor([30, 20, 4, 6, 0.1, 0.9, 0.1])
    boxes, scores, labels, probabilities = candidates(config, decoded)
    assert boxes[0].tolist() == [[28, 17, 32, 23], [8, 17, 12, 23]]
    assert scores[0].tolist() == pytest.approx([0.54, 0.45])
    assert labels[0].tolist() == [0, 1]
    assert probabilities[0].tolist() == pytest.approx([0.6, 0.9])


def test_postprocessing_suppresses_within_a_class_only():
    decoded = window(
        [50, 50, 20, 20, 0.9, 0.9, 0.1],
        [52, 50, 20, 20, 0.8, 0.9, 0.1],  # IoU 18/22 with the first, of its class
        [52, 50, 20, 20, 0.7, 0.1, 0.9],  # the same box, another class
        [80, 50, 20, 20, 0.5, 0.9, 0.1],
    )
    rows = postprocess(decoded, 0.1, 0.45)[0]
    assert rows[:, 6].tolist() == [0, 1, 0]
    assert rows[0].tolist() == pytest.approx([40, 40, 60, 60, 0.9, 0.9, 0])
    assert len(postprocess(decoded, 0.1, 0.82)[0]) == 4


def test_the_threshold_is_on_the_product_and_includes_it():
    decoded = window([50, 50, 20, 20, 0.5, 0.5, 0.0], [90, 50, 20, 20, 0.5, 0.49, 0.0])
    assert len(postprocess(decoded, 0.25, 0.45)[0]) == 1
    assert len(postprocess(decoded, 0.001, 0.45)[0]) == 2
    assert postprocess(decoded, 0.3, 0.45)[0].shape == (0, 7)


def test_ranking_by_class_probability_reorders_and_keeps_the_same_boxes():
    decoded = window(
        [50, 50, 20, 20, 0.9, 0.6, 0.1],
        [51, 50, 20, 20, 0.5, 0.99, 0.1],  # suppressed by the first in either case
        [90, 50, 20, 20, 0.5, 0.8, 0.1],
    )
    by_score = postprocess(decoded, 0.1, 0.45)[0]
    by_class = postprocess(decoded, 0.1, 0.45, ranking="class_probability")[0]
    assert by_score[:, 5].tolist() == pytest.approx([0.6, 0.8])
    torch.testing.assert_close(by_class, by_score.flip(0))


def test_windows_of_a_batch_are_apart():
    one = window([50, 50, 20, 20, 0.9, 0.9, 0.1])
    rows = postprocess(torch.cat([one, torch.zeros_like(one), one]), 0.1, 0.45)
    assert [len(each) for each in rows] == [1, 0, 1]


def test_sides_that_overflow_leave_finite_candidates(small_config):
    config = small_config()
    decoded = torch.zeros(1, config.cell_count, 5 + len(config.classes))
    decoded[0, 0, :4] = torch.tensor([10.0, 20.0, math.inf, 4.0])
    boxes, *_ = candidates(config, decoded)
    assert boxes.isfinite().all()
    assert boxes[0].abs().max() == FARTHEST_PX
