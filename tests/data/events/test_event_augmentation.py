import numpy as np
import pytest

from shared.data.events.augmentation import (
    EventAugmentation,
    add_noise,
    scale_time,
    shift,
    suppress_polarity,
    suppress_polarity_channels,
)
from shared.data.events.labels import BOX
from shared.vision.events import Events
from shared.vision.histogram import stacked_histogram

SIZE = (20, 30)
BOXES = np.array([(1_000, 5, 6, 10, 8, 1, 3, 1.0), (101_000, 25, 0, 5, 20, 2, 4, 1.0)], BOX)


def events(number: int = 3000, seed: int = 0) -> Events:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(1_000, 101_000, number))
    t[0], t[-1] = 1_000, 101_000
    x, y = rng.integers(0, SIZE[1], number), rng.integers(0, SIZE[0], number)
    return Events(t, x.astype(np.uint16), y.astype(np.uint16), rng.integers(0, 2, number).astype(np.uint8))


def test_one_polarity_goes_and_the_other_stays() -> None:
    some = events()
    assert set(suppress_polarity(some, 0).p.tolist()) == {1}
    assert len(suppress_polarity(some, 0)) + len(suppress_polarity(some, 1)) == len(some)


def test_a_polarity_may_also_go_from_histograms() -> None:
    whole = stacked_histogram(events(), SIZE)
    dark = suppress_polarity_channels(whole[None], 1)[0]
    assert np.array_equal(dark[:10], whole[:10])
    assert not dark[10:].any()
    assert whole[10:].any()
    # The first and the last event, which set the edges of the bins, are both darker here.
    some = events()
    some.p[0] = some.p[-1] = 0
    assert np.array_equal(
        suppress_polarity_channels(stacked_histogram(some, SIZE), 1),
        stacked_histogram(suppress_polarity(some, 1), SIZE),
    )


def test_events_and_boxes_move_together() -> None:
    some = events()
    moved, boxes = shift(some, BOXES, SIZE, 3, -2)
    inside = (some.x < 27) & (some.y >= 2)
    assert np.array_equal(moved.x, some.x[inside] + 3)
    assert np.array_equal(moved.y, some.y[inside] - 2)
    assert [tuple(row) for row in boxes[["x", "y", "w", "h"]].tolist()] == [(8, 4, 10, 8), (28, 0, 2, 18)]
    assert len(shift(some, BOXES, SIZE, 6, 0)[1]) == 1  # the second box is out of the frame
    assert BOXES["x"].tolist() == [5, 25]  # the boxes given stay as they were


def test_times_of_events_and_boxes_stretch_together() -> None:
    some = events()
    slow, boxes = scale_time(some, BOXES, 1.5)
    assert (slow.t[0], slow.t[-1]) == (1_000, 151_000)
    assert boxes["t"].tolist() == [1_000, 151_000]
    assert np.all(np.diff(slow.t) >= 0)
    assert np.array_equal(slow.x, some.x)


def test_noise_is_poisson_over_pixels_and_time() -> None:
    some = events(200)
    noisy = add_noise(some, SIZE, 100.0, np.random.default_rng(3))
    expected = 100.0 * 600 * 0.1  # Hz x pixels x seconds
    assert abs(len(noisy) - 200 - expected) < 5 * np.sqrt(expected)
    assert np.all(np.diff(noisy.t) >= 0)
    assert (noisy.t[0], noisy.t[-1]) == (1_000, 101_000)
    assert noisy.x.max() == 29
    assert noisy.y.max() == 19
    assert len(add_noise(Events.empty(), SIZE, 100.0, np.random.default_rng(0))) == 0


def test_a_sample_changes_by_its_seed_alone() -> None:
    change = EventAugmentation()
    one, boxes = change(events(), BOXES, SIZE, np.random.default_rng(1))
    same, same_boxes = change(events(), BOXES, SIZE, np.random.default_rng(1))
    other, _ = change(events(), BOXES, SIZE, np.random.default_rng(2))
    assert np.array_equal(one.t, same.t)
    assert np.array_equal(boxes, same_boxes)
    assert not np.array_equal(one.t, other.t)
    assert np.all(np.diff(one.t) >= 0)
    stacked_histogram(one, SIZE)  # all within the sensor


def test_a_quarter_of_the_samples_lose_a_polarity_and_zeros_change_nothing() -> None:
    change = EventAugmentation(suppress_p=0.25, shift_px=0, noise_hz=0, time_scale=0)
    some = events(50)
    lost = [
        len(set(change(some, BOXES, SIZE, np.random.default_rng(seed))[0].p.tolist())) for seed in range(800)
    ]
    assert abs(np.mean([kinds == 1 for kinds in lost]) - 0.25) < 0.05
    still = EventAugmentation(suppress_p=0, shift_px=0, noise_hz=0, time_scale=0)
    kept, boxes = still(some, BOXES, SIZE, np.random.default_rng(0))
    assert kept is some
    assert boxes is BOXES


@pytest.mark.parametrize("seed", range(5))
def test_times_stretch_within_their_limits(seed: int) -> None:
    change = EventAugmentation(suppress_p=0, shift_px=0, noise_hz=0, time_scale=0.5)
    stretched, _ = change(events(), BOXES, SIZE, np.random.default_rng(seed))
    assert 100_000 / 1.5 - 1 <= stretched.t[-1] - stretched.t[0] <= 150_001
