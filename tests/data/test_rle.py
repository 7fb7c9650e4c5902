import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco

from shared.data.regions import PolygonRegion, RunRegion, box_region, class_mask
from shared.data.rle import BrokenRle, decode_rle, encode_rle, fits, in_order, parse_rle

masks = arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def test_pixels_count_from_one_down_the_columns() -> None:
    # 3 rows, 4 columns: pixel 1 is the upper left corner, 2 the one below it, 4 the top of the next column.
    mask = decode_rle("1 1 5 3 12 1", 3, 4)
    assert mask.astype(int).tolist() == [
        [1, 0, 1, 0],
        [0, 1, 0, 0],
        [0, 1, 0, 1],
    ]
    assert encode_rle(mask) == "1 1 5 3 12 1"


def test_a_run_goes_on_into_the_next_column() -> None:
    mask = np.zeros((3, 4), bool)
    mask[2, 0] = mask[0, 1] = True
    assert encode_rle(mask) == "3 2"


def test_nothing_is_an_empty_text_and_everything_one_run() -> None:
    assert encode_rle(np.zeros((3, 4), bool)) == ""
    assert not decode_rle("", 3, 4).any()
    assert encode_rle(np.ones((3, 4), bool)) == "1 12"
    assert decode_rle("1 12", 3, 4).all()


@given(masks)
def test_there_and_back(mask: np.ndarray) -> None:
    assert (decode_rle(encode_rle(mask), *mask.shape) == mask).all()


@given(masks)
def test_cocos_own_decoder_agrees(mask: np.ndarray) -> None:
    # COCO's counts begin with the zeros, alternate, and run down the columns as well.
    counts, position = [], 1
    for start, length in parse_rle(encode_rle(mask)).tolist():
        counts += [start - position, length]
        position = start + length
    counts.append(mask.size - position + 1)
    compressed = coco.frPyObjects({"counts": counts, "size": list(mask.shape)}, *mask.shape)
    assert (coco.decode(compressed).astype(bool) == mask).all()


@given(masks)
def test_runs_are_as_few_as_can_be_and_ascend(mask: np.ndarray) -> None:
    runs = parse_rle(encode_rle(mask))
    assert in_order(runs)
    assert fits(runs, *mask.shape)
    assert (runs[1:, 0] > runs[:-1].sum(axis=1)).all()  # a gap between any two
    assert runs[:, 1].sum() == mask.sum()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", "3 values"),
        ("1 two", "'two', not a positive whole number"),
        ("1 2.0", "'2.0'"),
        ("-1 4", "'-1'"),
        ("1 nan", "'nan'"),
        ("0 4", "value 1 is 0"),
        ("5 0", "value 2 is 0"),
        ("1 99999999999999999999", "'99999999999999999999'"),
        ("١ ٢", "not a positive whole number"),
    ],
)
def test_what_is_no_mask_is_refused_with_the_value(text: str, message: str) -> None:
    with pytest.raises(BrokenRle, match=message):
        parse_rle(text)


def test_the_last_pixel_is_in_and_one_more_is_beyond() -> None:
    assert decode_rle("12 1", 3, 4)[2, 3]
    with pytest.raises(BrokenRle, match="ends at pixel 13; 4 x 3 has only 12"):
        decode_rle("12 2", 3, 4)


def test_overlapping_and_descending_runs_are_out_of_order_and_their_union_is_the_mask() -> None:
    assert not in_order(parse_rle("5 3 1 2"))
    assert not in_order(parse_rle("1 3 3 2"))
    assert in_order(parse_rle("1 2 3 2"))
    assert np.flatnonzero(decode_rle("5 3 6 4 1 2", 12, 1)).tolist() == [0, 1, 4, 5, 6, 7, 8]


def test_regions_become_masks() -> None:
    box = box_region(0, 2, 1, 3, 2).mask(5, 8)
    assert np.argwhere(box).tolist() == [[r, c] for r in (1, 2) for c in (2, 3, 4)]
    runs = RunRegion(1, parse_rle("1 2")).mask(5, 8)
    assert np.argwhere(runs).tolist() == [[0, 0], [1, 0]]
    regions = [box_region(0, 0, 0, 1, 1), box_region(0, 7, 4, 1, 1), RunRegion(1, parse_rle("3 1"))]
    assert np.argwhere(class_mask(regions, 0, 5, 8)).tolist() == [[0, 0], [4, 7]]
    assert not class_mask(regions, 2, 5, 8).any()


def test_a_polygon_is_cocos_to_within_a_pixel_of_its_border() -> None:
    points = np.array([[10.0, 5.0], [60.0, 12.0], [48.0, 40.0], [15.0, 33.0]])
    ours = PolygonRegion(0, points).mask(50, 80)
    theirs = coco.decode(coco.frPyObjects([points.reshape(-1).tolist()], 50, 80))[..., 0]
    one_pixel = np.ones((3, 3), np.uint8)
    assert (ours >= cv2.erode(theirs, one_pixel).astype(bool)).all()
    assert (ours <= cv2.dilate(theirs, one_pixel).astype(bool)).all()
