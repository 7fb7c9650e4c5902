import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.core.registry import UnknownName
from shared.vision.event_stacks import REPRESENTATIONS, MixedDensity, StackedHistogram, TernaryVolume
from shared.vision.events import Events
from shared.vision.histogram import stacked_histogram


def events(rows: list[tuple[int, int, int, int]]) -> Events:
    """Rows (t, x, y, p)."""
    t, x, y, p = np.array(rows, np.int64).reshape(-1, 4).T
    return Events(t, x.astype(np.uint16), y.astype(np.uint16), p.astype(np.uint8))


def random_events(number: int, size: tuple[int, int], seed: int, span: int = 50_000) -> Events:
    rng = np.random.default_rng(seed)
    t = np.sort(rng.integers(1_000_000, 1_000_001 + span, number))
    x, y = rng.integers(0, size[1], number), rng.integers(0, size[0], number)
    return Events(t, x.astype(np.uint16), y.astype(np.uint16), rng.integers(0, 2, number).astype(np.uint8))


def by_formula(some: Events, size: tuple[int, int], bins: int = 10, cutoff: int = 10) -> np.ndarray:
    """Section 7, event by event: channel = polarity * bins + bin."""
    counts = np.zeros((2 * bins, *size), int)
    for t, x, y, p in zip(some.t.tolist(), some.x, some.y, some.p, strict=True):
        first, last = int(some.t[0]), int(some.t[-1])
        number = min(int(bins * (t - first) // max(last - first, 1)), bins - 1)
        counts[int(p) * bins + number, y, x] += 1
    return np.minimum(counts, cutoff).astype(np.uint8)


def test_events_are_counted_per_polarity_bin_and_pixel() -> None:
    built = stacked_histogram(
        events(
            [(100, 1, 0, 0)] * 2 + [(119, 2, 1, 1), (120, 2, 1, 1), (190, 0, 1, 0), (200, 3, 1, 1)],
        ),
        (2, 4),
    )
    assert (built.shape, built.dtype) == ((20, 2, 4), np.uint8)
    # Span 100: 100 is in bin 0, 119 in 1, 120 in 2, 190 and the last event in 9; brighter from channel 10.
    assert {tuple(place): int(built[tuple(place)]) for place in np.argwhere(built).tolist()} == {
        (0, 0, 1): 2, (11, 1, 2): 1, (12, 1, 2): 1, (9, 1, 0): 1, (19, 1, 3): 1
    }  # fmt: skip


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 99), st.integers(0, 6), st.integers(0, 4), st.integers(0, 1)), max_size=80
    ),
    st.integers(1, 12),
    st.integers(1, 12),
)
def test_it_is_the_formula(rows: list[tuple[int, int, int, int]], bins: int, cutoff: int) -> None:
    some = events(sorted(rows))
    built = stacked_histogram(some, (5, 7), bins=bins, cutoff=cutoff)
    assert np.array_equal(built, by_formula(some, (5, 7), bins, cutoff))


@pytest.mark.parametrize("number", [1, 255, 256, 257, 5000])
def test_a_pixel_that_never_rests_does_not_wrap_round(number: int) -> None:
    hot = Events(np.full(number, 7, np.int64), np.full(number, 3, np.uint16), np.full(number, 2, np.uint16),
                 np.ones(number, np.uint8))  # fmt: skip
    for cutoff in (10, 255):
        built = stacked_histogram(hot, (4, 5), cutoff=cutoff)
        assert built[10, 2, 3] == min(number, cutoff)
        assert np.count_nonzero(built) == 1


def test_it_equals_torch_on_many_events() -> None:
    torch = pytest.importorskip("torch")
    some = random_events(200_000, (60, 80), 1)
    t, x, y, p = (torch.from_numpy(column.astype(np.int64)) for column in (some.t, some.x, some.y, some.p))
    # The reference's float32 arithmetic gives the same bins for windows of 50 ms.
    bins = torch.clamp(torch.floor((t - t[0]) / max(int(t[-1] - t[0]), 1) * 10), max=9).long()
    counts = torch.zeros((2, 10, 60, 80), dtype=torch.int32)
    counts.index_put_((p, bins, y, x), torch.ones(1, dtype=torch.int32), accumulate=True)
    assert np.array_equal(stacked_histogram(some, (60, 80)), counts.clamp(max=10).numpy().reshape(20, 60, 80))


def test_float32_division_gives_the_same_bins_for_50_ms() -> None:
    for span in (*range(1, 400), 4999, 49_999, 50_000):
        offset = np.arange(span + 1)
        reference = np.minimum(np.floor(offset.astype(np.float32) / np.float32(span) * np.float32(10)), 9)
        assert np.array_equal(reference, np.minimum(10 * offset // span, 9))


def test_nothing_gives_zeros() -> None:
    assert not stacked_histogram(Events.empty(), (3, 4)).any()


def test_half_resolution_keeps_odd_pixels_and_the_bins_of_all_events() -> None:
    some = random_events(5000, (11, 13), 2)
    whole = stacked_histogram(some, (11, 13))
    half = stacked_histogram(some, (11, 13), half=True)
    assert half.shape == (20, 5, 6)
    assert np.array_equal(half, whole[:, 1::2, 1::2][:, :5, :6])
    assert half.sum() < 0.35 * whole.sum()


def test_a_buffer_is_used_again_and_emptied() -> None:
    buffer = np.full((20, 6, 8), 99, np.uint8)
    some = random_events(300, (6, 8), 3)
    assert stacked_histogram(some, (6, 8), out=buffer) is buffer
    assert np.array_equal(buffer, by_formula(some, (6, 8)))
    for unfit in (
        np.zeros((20, 6, 7), np.uint8),
        np.zeros((20, 6, 8), np.int8),
        np.zeros((40, 6, 8), np.uint8)[::2],
    ):
        with pytest.raises(ValueError, match="out must be contiguous uint8"):
            stacked_histogram(some, (6, 8), out=unfit)


@pytest.mark.parametrize(
    ("row", "size", "message"),
    [
        ((0, 4, 0, 0), (3, 4), "column 4"),
        ((0, 0, 3, 0), (3, 4), "row 3"),
        ((0, 0, 0, 2), (3, 4), "polarities must be 0 or 1"),
        ((0, 0, 0, 0), (0, 4), "0 x 4"),
    ],
)
def test_events_that_would_be_counted_elsewhere_are_refused(row: tuple, size: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stacked_histogram(events([row]), size)


def test_columns_must_be_equally_long() -> None:
    empty = Events.empty()
    with pytest.raises(ValueError, match="equally long"):
        Events(np.zeros(2, np.int64), empty.x, empty.y, empty.p)


def test_the_number_of_opencv_threads_changes_nothing() -> None:
    some = random_events(100_000, (120, 160), 5)
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        one = stacked_histogram(some, (120, 160))
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(one, stacked_histogram(some, (120, 160)))


def test_mixed_density_sums_signs_over_ever_longer_times() -> None:
    # span 16, four bins: t_norm < 1/8, 1/4, 1/2, and all of it
    some = events(
        [(0, 0, 0, 1), (1, 0, 0, 1), (2, 0, 0, 0), (4, 1, 0, 1), (7, 0, 0, 1), (8, 0, 0, 0), (16, 1, 0, 0)]
    )
    built = MixedDensity(bins=4)(some, (1, 2))
    assert built.dtype == np.int8
    assert built[:, 0].tolist() == [[2, 0], [1, 0], [2, 1], [1, 0]]


def test_mixed_density_is_cut_off_on_both_sides() -> None:
    some = events([(0, 0, 0, 1)] * 200 + [(0, 1, 0, 0)] * 200)
    assert MixedDensity()(some, (1, 2))[9, 0].tolist() == [32, -32]


def test_mixed_density_equals_the_logarithm_of_its_description() -> None:
    some = random_events(3000, (9, 7), 6)
    place = np.clip((some.t - some.t[0]) / (some.t[-1] - some.t[0]), 1e-6, 1 - 1e-6)
    bins = np.floor(np.maximum(10 - np.log(place) / np.log(0.5), 0)).astype(int)
    sums = np.zeros((10, 9, 7), int)
    np.add.at(sums, (bins, some.y, some.x), 2 * some.p.astype(int) - 1)
    expected = np.clip(np.cumsum(sums, axis=0), -32, 32)
    assert np.array_equal(MixedDensity()(some, (9, 7)), expected)


def test_ternary_volume_keeps_the_last_sign_of_every_bin() -> None:
    some = events([(0, 0, 0, 1), (1, 0, 0, 0), (1, 1, 0, 1), (6, 1, 0, 0), (9, 1, 0, 1), (10, 0, 0, 1)])
    built = TernaryVolume(bins=2)(some, (1, 3))
    assert built.dtype == np.int8
    assert built[:, 0].tolist() == [[-1, 1, 0], [1, 1, 0]]


def test_ternary_volume_event_by_event() -> None:
    some = random_events(4000, (6, 9), 7)
    expected = np.zeros((10, 6, 9), int)
    for t, x, y, p in zip((some.t - some.t[0]).tolist(), some.x, some.y, some.p, strict=True):
        expected[min(10 * t // int(some.t[-1] - some.t[0]), 9), y, x] = 1 if p else -1
    assert np.array_equal(TernaryVolume()(some, (6, 9)), expected)


@pytest.mark.parametrize("name", REPRESENTATIONS.names())
def test_every_representation_has_one_interface(name: str) -> None:
    represent = REPRESENTATIONS.load(name)(bins=5)
    some = random_events(2000, (10, 12), 8)
    whole, half = represent(some, (10, 12)), represent(some, (10, 12), half=True)
    assert whole.shape == (represent.channels, 10, 12)
    assert whole.dtype == represent.dtype
    assert np.array_equal(half, whole[:, 1::2, 1::2])
    assert represent(some, (10, 12), out=whole) is whole
    assert not represent(Events.empty(), (10, 12)).any()
    with pytest.raises(ValueError, match="beyond a sensor"):
        represent(some, (9, 12))


def test_names_are_those_of_the_reference() -> None:
    assert StackedHistogram().folder(50) == "stacked_histogram_dt=50_nbins=10"
    with pytest.raises(UnknownName, match="did you mean 'ternary_volume'"):
        REPRESENTATIONS.load("ternery_volume")
