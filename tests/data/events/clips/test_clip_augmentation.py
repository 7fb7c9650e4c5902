from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from shared.config.schema import AugmentationConfig
from shared.data.events.clips.augmentation import (
    add_noise,
    build_clip_augmentation,
    flip,
    nearest,
    random_zoom_in,
    random_zoom_out,
    zoom_in,
    zoom_out,
)
from shared.data.events.clips.frame_sequence import LabelledBoxes, StreamSettings
from shared.data.events.clips.plan import Clip

HEIGHT, WIDTH = 48, 64
SETTINGS = StreamSettings("stacked_histogram", 1, 50, False, (HEIGHT, WIDTH), (2, HEIGHT, WIDTH), 10)
CLIP = Clip(0, 0, 3, 0, True, seed=7)


def boxes_of(*rows: tuple[int, float, float, float, float]) -> LabelledBoxes:
    """Rows of window, x, y, w, h."""
    table = np.array(rows, np.float32).reshape(-1, 5)
    number = np.arange(len(table))
    return LabelledBoxes(table[:, 0].astype(np.int64), table[:, 1:], number % 2, number)


def drawn(boxes: LabelledBoxes, windows: int = 3) -> np.ndarray:
    """Frames in which the pixels from each box's first to its last, x to x + w, have its number + 1."""
    frames = np.zeros((windows, 2, HEIGHT, WIDTH), np.uint8)
    for number, (window, (x, y, w, h)) in enumerate(zip(boxes.window, boxes.boxes.astype(int), strict=True)):
        frames[window, :, y : y + h + 1, x : x + w + 1] = number + 1
    return frames


def box_of(frame: np.ndarray, number: int) -> list[int]:
    """x, y, w, h of the pixels of a number."""
    rows, columns = np.nonzero(frame[0] == number + 1)
    return [columns.min(), rows.min(), np.ptp(columns), np.ptp(rows)]


TWO = boxes_of((0, 5, 10, 8, 12), (2, 30, 20, 16, 6))


def test_a_flip_moves_boxes_with_their_pixels() -> None:
    frames, boxes = flip(drawn(TWO), TWO)
    assert boxes.boxes.tolist() == [[64 - 1 - 5 - 8, 10, 8, 12], [64 - 1 - 30 - 16, 20, 16, 6]]
    assert box_of(frames[0], 0) == [50, 10, 8, 12]
    assert box_of(frames[2], 1) == [17, 20, 16, 6]
    again, back = flip(frames, boxes)
    assert np.array_equal(again, drawn(TWO))
    assert np.array_equal(back.boxes, TWO.boxes)


@pytest.mark.parametrize(("source", "target"), [(48, 64), (64, 48), (37, 64), (64, 62), (5, 5)])
def test_nearest_is_that_of_torch(source: int, target: int) -> None:
    row = torch.arange(source, dtype=torch.float32).reshape(1, 1, -1)
    assert (
        nearest(source, target).tolist()
        == F.interpolate(row, size=target, mode="nearest-exact").flatten().tolist()
    )


def test_zooming_in_cuts_out_a_part_and_boxes_with_it() -> None:
    # the 24 x 32 pixels from row 12 and column 16 on become twice as large
    boxes = boxes_of((0, 20, 14, 4, 6), (0, 10, 30, 10, 20), (1, 2, 14, 10, 6))
    frames, moved = zoom_in(drawn(boxes), boxes, 12, 16, (24, 32))
    # 20 -> (20 - 16) * 2; the second is cut at 0 and at row 47; the third lies outside
    assert moved.boxes.tolist() == [[8, 4, 8, 12], [0, 36, 8, 11]]
    assert (moved.window.tolist(), moved.classes.tolist(), moved.track_ids.tolist()) == (
        [0, 0],
        [0, 1],
        [0, 1],
    )
    assert box_of(frames[0], 0) == [8, 4, 9, 13]  # 5 x 7 pixels are now 10 x 14
    assert np.array_equal(frames[:, :, ::2, ::2], drawn(boxes)[:, :, 12:36, 16:48])
    assert not (frames[1] == 3).any()


def test_zooming_out_leaves_zeros_around() -> None:
    boxes = boxes_of((1, 8, 12, 16, 20))
    full = np.full((3, 2, HEIGHT, WIDTH), 9, np.uint8)
    frames, moved = zoom_out(full, boxes, 5, 20, (24, 32))
    assert moved.boxes.tolist() == [[24, 11, 8, 10]]  # half, at (20, 5)
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[5:29, 20:52] = True
    assert (frames[..., inside] == 9).all()
    assert not frames[..., ~inside].any()
    assert box_of(zoom_out(drawn(boxes), boxes, 5, 20, (24, 32))[0][1], 0) == [24, 11, 7, 9]


def test_a_clip_is_enlarged_around_a_box_of_its_latest_labelled_window() -> None:
    boxes = boxes_of((0, 2, 2, 4, 4), (1, 50, 35, 10, 9), (1, 30, 8, 6, 6))
    seen = set()
    for seed in range(200):
        rng = np.random.default_rng(seed)
        _, moved = random_zoom_in(drawn(boxes), boxes, rng.uniform(1, 1.5), rng)
        shown = {int(number) for number in moved.track_ids if _whole(moved, number, boxes)}
        assert shown & {1, 2}
        seen.add(frozenset(shown))
    assert len(seen) > 2  # at different places


def _whole(moved: LabelledBoxes, number: int, before: LabelledBoxes) -> bool:
    """Whether a box kept its proportions, so nothing of it was cut off."""
    w, h = moved.boxes[moved.track_ids == number][0, 2:]
    return bool(np.isclose(w / h, before.boxes[number, 2] / before.boxes[number, 3], rtol=0.05))


def test_an_object_larger_than_the_part_fills_it() -> None:
    boxes = boxes_of((0, 0, 0, 63, 47))
    for seed in range(20):
        rng = np.random.default_rng(seed)
        frames, moved = random_zoom_in(drawn(boxes), boxes, 1.5, rng)
        assert np.allclose(
            moved.boxes, [[0, 0, 63, 47]], rtol=0, atol=1.6
        )  # the frame's last pixel, enlarged
        assert (frames[0] == 1).all()


def test_a_clip_without_boxes_is_zoomed_anywhere() -> None:
    none = boxes_of()
    full = np.arange(WIDTH, dtype=np.uint8) + np.zeros((3, 2, HEIGHT, 1), np.uint8)
    firsts = set()
    for seed in range(300):
        rng = np.random.default_rng(seed)
        frames, moved = random_zoom_in(full, none, 1.5, rng)
        assert len(moved) == 0
        firsts.add(int(frames[0, 0, 0, 0]))
        frames, _ = random_zoom_out(full + 1, none, 1.2, rng)
        assert (frames[0, 0] != 0).sum() == 40 * 53  # 48 / 1.2 x 64 / 1.2
    assert min(firsts) == 0
    assert max(firsts) == WIDTH - 42  # 64 / 1.5 = 42.7


def test_noise_adds_as_many_events_as_its_rate_says() -> None:
    frames = np.zeros((200, 2, HEIGHT, WIDTH), np.uint8)
    noisy = add_noise(frames, 0.5, SETTINGS, np.random.default_rng(0))
    expected = 0.5 * 200 * HEIGHT * WIDTH * 0.05  # Hz · windows · pixels · s
    assert noisy.sum() == pytest.approx(expected, abs=4 * expected**0.5)
    assert not frames.any()
    assert (
        add_noise(np.full_like(frames, 10), 0.5, SETTINGS, np.random.default_rng(0)).max() == 10
    )  # the cutoff


def augment(seed: int, *, streamed: bool = True, start: int = 0, **config: float):
    change = build_clip_augmentation(AugmentationConfig(**config), SETTINGS)
    assert change is not None
    clip = replace(CLIP, seed=seed, start=start, streamed=streamed)
    return change(drawn(TWO), TWO, clip)


ALL = {
    "horizontal_flip": 0.5,
    "zoom_in": 0.5,
    "zoom_out": 0.5,
    "zoom_out_streamed": 0.5,
    "suppress_polarity": 0.5,
    "event_noise": 0.5,
}


def test_all_clips_of_a_piece_are_changed_alike() -> None:
    quiet = ALL | {"event_noise": 0.0}
    changed = set()
    for seed in range(40):
        frames, boxes = augment(seed, **quiet)
        later, later_boxes = augment(seed, start=3, **quiet)
        assert np.array_equal(frames, later)
        assert np.array_equal(boxes.boxes, later_boxes.boxes)
        changed.add(frames.tobytes())
    assert len(changed) > 20
    noise = {"event_noise": 1.0, "event_noise_hz": 5.0}
    assert not np.array_equal(augment(1, **noise)[0], augment(1, start=3, **noise)[0])
    assert np.array_equal(augment(1, start=3, **noise)[0], augment(1, start=3, **noise)[0])


def test_streams_are_never_enlarged_and_single_clips_are() -> None:
    def widths(streamed: bool) -> list[float]:
        return [augment(seed, streamed=streamed, **ALL)[1].boxes[-1, 2] / 16 for seed in range(100)]

    stream, single = widths(True), widths(False)
    assert 1 / 1.25 < min(stream) < 0.9
    assert max(stream) == 1
    assert 1.3 < max(single) <= 1.5 * 64 / 63
    assert min(single) < 0.9


def test_chances_are_those_of_the_config() -> None:
    def share(count) -> float:
        return sum(count(seed) for seed in range(1000)) / 1000

    assert share(lambda seed: augment(seed, horizontal_flip=0.3)[1].boxes[0, 0] != 5) == pytest.approx(
        0.3, abs=0.05
    )
    zoomed = share(
        lambda seed: augment(seed, streamed=False, zoom_in=0.64, zoom_out=0.16)[1].boxes[-1, 2] > 16
    )
    assert zoomed == pytest.approx(0.64, abs=0.05)
    lost = [augment(seed, suppress_polarity=0.25)[0].any(axis=(0, 2, 3)).tolist() for seed in range(1000)]
    assert lost.count([False, True]) == pytest.approx(125, abs=40)
    assert lost.count([True, False]) == pytest.approx(125, abs=40)


def test_nothing_asked_for_is_no_augmentation_and_the_impossible_is_refused() -> None:
    assert build_clip_augmentation(AugmentationConfig(), SETTINGS) is None
    other = replace(SETTINGS, representation="ternary_volume", cutoff=None)
    with pytest.raises(ValueError, match=r"augmentation\.suppress_polarity needs counts"):
        build_clip_augmentation(AugmentationConfig(suppress_polarity=0.25), other)
    assert build_clip_augmentation(AugmentationConfig(horizontal_flip=0.5), other) is not None
    with pytest.raises(ValueError, match="at most 100, got 1000"):
        build_clip_augmentation(AugmentationConfig(event_noise=1.0, event_noise_hz=1000.0), SETTINGS)
