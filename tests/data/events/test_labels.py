from pathlib import Path

import numpy as np
import pytest
from numpy.lib.recfunctions import repack_fields

from shared.core.registry import UnknownName
from shared.data.events.classes import CLASS_LISTS, class_list
from shared.data.events.label_rules import LabelRules, filter_boxes, label_frames
from shared.data.events.labels import BOX, read_boxes
from shared.data.events.repairs import RecordingUnreadable, Repairs
from tests.data.events.formats import box_records

ROWS = [(100_000, 1.0, 2.0, 30.0, 40.0, 1, 7, 0.5), (200_000, 5.0, 6.0, 12.0, 20.0, 0, 8, 1.0)]
ETRAM = LabelRules(CLASS_LISTS["etram3"])


def save(path: Path, records: np.ndarray) -> Path:
    np.save(path, records)
    return path


def boxes(*rows: tuple) -> np.ndarray:
    """Rows (t, x, y, w, h, class)."""
    return np.array([(*row, 0, 1.0) for row in rows], BOX)


def test_a_box_has_the_40_bytes_of_the_data_sets() -> None:
    assert BOX.itemsize == 40
    assert [BOX.fields[name][1] for name in BOX.names] == [0, 8, 12, 16, 20, 24, 28, 32]


@pytest.mark.parametrize("old", [False, True])
def test_old_and_new_field_names_mean_the_same(tmp_path: Path, old: bool) -> None:
    repairs = Repairs()
    found = read_boxes(save(tmp_path / "a.npy", box_records(ROWS, old=old)), repairs)
    assert found.dtype == BOX
    assert [tuple(row) for row in found.tolist()] == ROWS
    assert repairs.as_dict() == {}


def test_padding_and_other_orders_of_fields_do_not_matter(tmp_path: Path) -> None:
    reordered = repack_fields(box_records(ROWS)[["class_id", "h", "w", "y", "x", "t"]])
    found = read_boxes(save(tmp_path / "a.npy", reordered), Repairs())
    assert found["h"].tolist() == [40, 20]
    assert found["track_id"].tolist() == [0, 0]
    assert found["class_confidence"].tolist() == [1, 1]


def test_boxes_are_repaired_and_counted(tmp_path: Path) -> None:
    rows = [
        (300_000, 0, 0, 9, 9, 0, 0, 1),
        (100_000, 0, 0, 8, 8, 0, 0, 1),
        (400_000, np.nan, 0, 9, 9, 0, 0, 1),
        (400_000, 0, 0, 0, 9, 0, 0, 1),
        (400_000, 0, 0, 9, -9, 0, 0, 1),
        (-1, 0, 0, 9, 9, 0, 0, 1),
    ]
    repairs = Repairs()
    found = read_boxes(save(tmp_path / "a.npy", box_records(rows)), repairs)
    assert found["t"].tolist() == [100_000, 300_000]
    assert repairs.as_dict() == {
        "box_not_finite": 1, "box_without_area": 2, "box_negative_time": 1, "labels_out_of_order": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (np.zeros((3, 5)), "no list of records"),
        (box_records(ROWS)[["t", "x", "y", "w"]], "lacks h, class_id"),
        (np.array([(1, 2)], [("t", "f8"), ("x", "f4")]), "lacks y"),
        (np.array([(0, 1, 2, 3, 4, -1)], [(name, "i8") for name in ("t", "x", "y", "w", "h", "class_id")]),
         "class ids"),
    ],
)  # fmt: skip
def test_what_is_no_list_of_boxes_is_refused(tmp_path: Path, records: np.ndarray, message: str) -> None:
    with pytest.raises(RecordingUnreadable, match=message):
        read_boxes(save(tmp_path / "a.npy", records), Repairs())


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npy", box_records(ROWS))
    data = path.read_bytes()
    for length in (0, 5, 60, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(RecordingUnreadable, match=r"not a whole \.npy"):
            read_boxes(path, Repairs())


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"t": 1}], object), allow_pickle=True)
    with pytest.raises(RecordingUnreadable, match=r"not a whole \.npy"):
        read_boxes(tmp_path / "a.npy", Repairs())


def test_etrams_own_order_of_classes() -> None:
    assert CLASS_LISTS["etram8"].names == (
        "pedestrian", "car", "bicycle", "bus", "motorbike", "truck", "tram", "wheelchair"
    )  # fmt: skip
    assert CLASS_LISTS["etram3"].names == ("pedestrian", "vehicle", "micro-mobility")


def test_class_lists_are_a_setting() -> None:
    assert class_list("cat, dog").names == ("cat", "dog")
    assert class_list("gen1").names == ("car", "pedestrian")
    with pytest.raises(UnknownName, match="did you mean 'etram8'"):
        class_list("etram9")
    with pytest.raises(ValueError, match="differ"):
        class_list("cat,cat")


def test_ids_that_a_list_lacks_are_an_error_and_ignored_ones_are_counted() -> None:
    some = boxes(*((200_000, 0, 0, 90, 90, number) for number in (0, 2, 5)))
    with pytest.raises(RecordingUnreadable, match=r"a\.npy holds class ids \[5\].*etram8"):
        filter_boxes(some, (720, 1280), ETRAM, training=False, name="a.npy")
    kept, taken = filter_boxes(some, (720, 1280), LabelRules(CLASS_LISTS["gen4"]), training=False, name="a")
    assert kept["class_id"].tolist() == [0, 2]
    assert taken["ignored_class"] == 1
    with pytest.raises(RecordingUnreadable, match=r"\[7\]"):
        filter_boxes(
            boxes((0, 0, 0, 9, 9, 7)), (720, 1280), LabelRules(CLASS_LISTS["gen4"]), training=False, name="a"
        )


def test_boxes_are_clipped_to_the_corners_of_the_frame() -> None:
    some = boxes(
        (0, -10, -20, 30, 50, 0), (0, 1270, 700, 40, 40, 0), (0, 1279, 5, 40, 40, 0), (0, -40, 5, 40, 40, 0)
    )
    kept, taken = filter_boxes(some, (720, 1280), ETRAM, training=False, name="a")
    corners = [tuple(row) for row in kept[["x", "y", "w", "h"]].tolist()]
    assert corners == [(0, 0, 20, 30), (1270, 700, 9, 19)]  # to columns 0..1279 and rows 0..719
    assert taken == {"ignored_class": 0, "outside_frame": 2, "too_small": 0}


def test_small_boxes_go_by_the_data_sets_rule() -> None:
    gen1 = LabelRules(CLASS_LISTS["gen1"], min_side=10, min_diagonal=30)
    # 24 by 18 has the diagonal 30; 22 by 18 has less; 9 by 50 has a short side
    some = boxes((0, 0, 0, 24, 18, 0), (0, 0, 0, 22, 18, 0), (0, 0, 0, 9, 50, 0))
    kept, taken = filter_boxes(some, (240, 304), gen1, training=False, name="a")
    assert kept["w"].tolist() == [24]
    assert taken["too_small"] == 2
    kept, _ = filter_boxes(
        boxes((0, 0, 0, 5, 5, 0), (0, 0, 0, 4.9, 50, 0)), (720, 1280), ETRAM, training=False, name="a"
    )
    assert kept["w"].tolist() == [5]


def test_very_wide_boxes_go_from_training_only() -> None:
    some = boxes((0, 0, 0, 273.6, 50, 0), (0, 0, 0, 274, 50, 0))  # 0.9 * 304 = 273.6
    for training, expected in ((True, 1), (False, 2)):
        kept, _ = filter_boxes(some, (240, 304), ETRAM, training=training, name="a")
        assert len(kept) == expected


def frames_at(*times: int, rules: LabelRules = ETRAM):
    return label_frames(boxes(*((time, 0, 0, 9, 9, 0) for time in times)), rules, window_us=50_000, name="a")


def test_gen1_windows_end_every_50_ms_with_labels_every_250() -> None:
    rules = LabelRules(CLASS_LISTS["gen1"], period_us=250_000)
    found = frames_at(90_000, 340_000, 590_000, 700_000, 1_089_000, 1_340_900, rules=rules)
    # 90 ms is too early; 700 ms is no multiple of 250 ms; 499 and 251.9 ms are, within 2 ms
    assert found.times.tolist() == [340_000, 590_000, 1_089_000, 1_340_900]
    before = [
        90_000,
        140_000,
        190_000,
        240_000,
        290_000,
        340_000,
    ]  # the window of 40 ms would begin before zero
    between = [390_000, 440_000, 490_000, 540_000, 590_000]
    assert found.representations[:11].tolist() == before + between
    assert found.representations[11:21].tolist() == [590_000 + 49_900 * step for step in range(1, 11)]
    assert np.diff(found.representations[20:]).tolist() == [50_380] * 5
    assert found.frame_index.tolist() == [5, 10, 20, 25]
    assert found.representations[found.frame_index].tolist() == found.times.tolist()


@pytest.mark.parametrize(("hertz", "every"), [(60, 6), (30, 3), (20, 2)])
def test_labels_are_taken_about_every_100_ms(hertz: int, every: int) -> None:
    times = [round(step * 1e6 / hertz) for step in range(1, 2 * hertz)]
    found = frames_at(*times)
    first = next(number for number, time in enumerate(times) if time >= 100_000)
    assert found.times.tolist() == times[first::every]
    assert np.abs(np.diff(found.representations) - 50_000).max() <= 1000  # two windows per label frame


def test_every_box_of_a_label_frame_is_found_by_its_index() -> None:
    some = boxes((100_000, 0, 0, 9, 9, 0), (100_000, 1, 0, 9, 9, 1), (150_000, 2, 0, 9, 9, 2),
                 (200_000, 3, 0, 9, 9, 2), (200_000, 4, 0, 9, 9, 2), (300_000, 5, 0, 9, 9, 0))  # fmt: skip
    found = label_frames(some, ETRAM, window_us=50_000, name="a")
    assert found.times.tolist() == [100_000, 200_000, 300_000]
    assert found.boxes["x"].tolist() == [0, 1, 3, 4, 5]
    assert found.first_box.tolist() == [0, 2, 4]
    assert found.representations.tolist() == [50_000, 100_000, 150_000, 200_000, 250_000, 300_000]
    assert found.frame_index.tolist() == [1, 3, 5]


def test_a_recording_without_a_usable_label_is_refused() -> None:
    with pytest.raises(RecordingUnreadable, match="a: no box is left"):
        frames_at(50_000, 99_999)
