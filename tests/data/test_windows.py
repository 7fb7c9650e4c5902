"""Windows cut from labelled pictures: where they lie and what they are labelled."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from shared.data.classification import ClassificationRecord, ClassificationSet
from shared.data.classification_torch import ClassificationDataset
from shared.data.formats import DatasetUnreadable
from shared.data.regions import box_region
from shared.data.windows import WindowPolicy, cut_window

CLASSES = ["pit", "scratch"]


def record(regions, *, width=200, height=40, complete=True, path=Path("strip.png")) -> ClassificationRecord:
    labels = np.array([any(region.label == index for region in regions) for index in range(len(CLASSES))])
    return ClassificationRecord(
        path, width, height, labels, path.name, regions=regions, regions_complete=complete
    )


def columns(width: int, height: int) -> np.ndarray:
    """A picture whose pixels say in which column they are."""
    return np.broadcast_to(np.arange(width, dtype=np.uint8)[None, :, None], (height, width, 3)).copy()


def cut(strip: ClassificationRecord, policy: WindowPolicy, seed: int):
    return cut_window(columns(strip.width, strip.height), strip, policy, np.random.default_rng(seed))


def test_a_window_holds_exactly_the_classes_whose_pixels_it_shows() -> None:
    # Boxes of 10 × 10 at columns 20 to 29 and 150 to 159; windows of 50 columns and the whole height.
    strip = record([box_region(0, 20, 10, 10, 10), box_region(1, 150, 5, 10, 10)])
    policy = WindowPolicy((40, 50), focus=0.0)
    needed = min(0.25 * 100, 0.002 * 40 * 50)  # 4 pixels
    seen = set()
    for seed in range(300):
        window, labels = cut(strip, policy, seed)
        left = int(window[0, 0, 0])
        shown = [10 * max(0, min(left + 50, start + 10) - max(left, start)) for start in (20, 150)]
        assert window.shape == (40, 50, 3)
        assert labels.tolist() == [count >= needed for count in shown]
        seen.add((*labels.tolist(),))
    assert seen == {(True, False), (False, True), (False, False)}


def test_a_small_share_of_a_large_defect_counts_once_it_fills_enough_of_the_window() -> None:
    # 160 of 200 columns and 40 rows: a window never shows a quarter of it unless 1600 pixels of its 320.
    strip = record([box_region(0, 0, 0, 160, 40)])
    for seed in range(100):
        window, labels = cut(strip, WindowPolicy((8, 40), focus=0.0), seed)
        shown = 8 * max(0, 160 - int(window[0, 0, 0]))
        assert labels[0] == (min(shown, 320) >= min(0.25 * 6400, 0.002 * 320))


def test_focus_lays_windows_over_a_class_and_without_classes_anywhere() -> None:
    strip = record([box_region(1, 100, 16, 4, 4)])
    always = [cut(strip, WindowPolicy((40, 30), focus=1.0), seed) for seed in range(100)]
    assert all(int(w[0, 0, 0]) <= 103 and int(w[0, -1, 0]) >= 100 for w, _ in always)
    assert np.mean([labels[1] for _, labels in always]) > 0.9  # the rest show one column of it, or less
    never = [cut(strip, WindowPolicy((40, 30), focus=0.0), seed) for seed in range(200)]
    assert 0.05 < np.mean([labels[1] for _, labels in never]) < 0.35
    starts = {
        int(cut(record([]), WindowPolicy((40, 30), focus=1.0), seed)[0][0, 0, 0]) for seed in range(400)
    }
    assert min(starts) <= 2
    assert max(starts) >= 168


def test_masks_follow_the_letterbox() -> None:
    # A source of 100 × 40 shown at 200 × 120: twice as large, 20 grey rows above and below.
    strip = record([box_region(0, 0, 0, 10, 40)], width=100, height=40)
    picture = columns(200, 120)
    for seed in range(100):
        window, labels = cut_window(
            picture, strip, WindowPolicy((20, 200), focus=0.0), np.random.default_rng(seed)
        )
        assert window.shape == (20, 200, 3)
    # A window of 20 rows that starts in row 0 shows only grey: no class, wherever the columns are.
    tops = [
        cut_window(picture, strip, WindowPolicy((20, 200), focus=1.0), np.random.default_rng(seed))[1][0]
        for seed in range(50)
    ]
    assert np.mean(tops) > 0.8
    rows = np.broadcast_to(np.arange(120, dtype=np.uint8)[:, None, None], (120, 200, 3)).copy()
    for seed in range(200):
        window, labels = cut_window(
            rows, strip, WindowPolicy((20, 200), focus=0.0), np.random.default_rng(seed)
        )
        top = int(window[0, 0, 0])
        shown = 20 * max(0, min(top + 20, 100) - max(top, 20))
        assert labels[0] == (shown >= 0.002 * 20 * 200)


def test_the_same_epoch_repeats_its_windows_and_the_next_draws_others(tmp_path: Path) -> None:
    path = tmp_path / "strip.png"
    cv2.imwrite(str(path), columns(200, 40))
    strips = ClassificationSet([record([box_region(0, 20, 10, 10, 10)], path=path)] * 8, CLASSES, "made here")
    dataset = ClassificationDataset(strips, (40, 200), windows=WindowPolicy((40, 60)), seed=5)
    epochs = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        epochs.append([(int(dataset[i]["image"][0, 0, 0]), dataset[i]["labels"].tolist()) for i in range(8)])
    assert epochs[0] == epochs[2] != epochs[1]
    assert tuple(dataset[0]["image"].shape) == (40, 60, 3)


def test_pictures_without_places_and_windows_too_large_are_refused() -> None:
    placed = record([box_region(0, 20, 10, 10, 10)])
    unplaced = record([box_region(0, 20, 10, 10, 10)], complete=False, path=Path("unplaced.png"))
    with pytest.raises(DatasetUnreadable, match=r"1 of 2 pictures .*unplaced\.png"):
        ClassificationDataset(
            ClassificationSet([placed, unplaced], CLASSES, "s"), (40, 200), windows=WindowPolicy((40, 60))
        )
    with pytest.raises(DatasetUnreadable, match="40x300 does not fit"):
        ClassificationDataset(
            ClassificationSet([placed], CLASSES, "s"), (40, 200), windows=WindowPolicy((40, 300))
        )
