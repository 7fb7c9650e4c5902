import hashlib
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from shared.data.synthetic.camera import SUPERSAMPLING, Placed, build_camera
from shared.data.synthetic.cctv import MIN_VISIBLE, generate_cctv, measure
from shared.data.synthetic.figures import draw_figure
from shared.data.synthetic.props import PROPS, draw_prop
from shared.data.synthetic.sprites import Sprite, paste


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}


def labels(folder: Path, split: str) -> dict:
    return json.loads((folder / "annotations" / f"{split}.json").read_text())


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate_cctv(tmp_path / name, count={"train": 6, "val": 2}, size=(128, 160), seed=seed)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    ours, others = files(tmp_path / "a"), files(tmp_path / "c")
    assert ours.keys() == others.keys()
    assert all(ours[name] != others[name] for name in ours)


def test_a_larger_set_begins_with_the_smaller_one(tmp_path: Path) -> None:
    generate_cctv(tmp_path / "small", count={"train": 4}, size=(96, 96), seed=3)
    generate_cctv(tmp_path / "large", count={"train": 20, "test": 1}, size=(96, 96), seed=3)
    large = files(tmp_path / "large")
    assert all(
        large[name] == data for name, data in files(tmp_path / "small").items() if name.endswith(".jpg")
    )


def test_splits_share_no_camera_and_no_picture(cctv: Path) -> None:
    cameras = {
        split: {image["camera"] for image in labels(cctv, split)["images"]}
        for split in ("train", "val", "test")
    }
    assert cameras["train"].isdisjoint(cameras["val"] | cameras["test"])
    assert cameras["val"].isdisjoint(cameras["test"])
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in cctv.rglob("*.jpg")]
    assert len(set(digests)) == len(digests) == 168


def test_scales_light_and_emptiness_vary(cctv: Path) -> None:
    document = labels(cctv, "train")
    heights = np.array([row["bbox"][3] for row in document["annotations"]]) / 208
    assert heights.min() < 0.09
    assert heights.max() > 0.4
    assert np.histogram(heights, [0, 0.12, 0.2, 0.3, 0.55])[0].min() > 0.05 * len(heights)
    assert {image["light"] for image in document["images"]} == {"day", "dusk", "night"}
    empty = 120 - len({row["image_id"] for row in document["annotations"]})
    assert 4 <= empty <= 30  # 12 % of 120 are meant


def test_boxes_lie_in_the_picture_and_hidden_figures_are_crowd(cctv: Path) -> None:
    rows = labels(cctv, "train")["annotations"]
    for row in rows:
        x, y, width, height = row["bbox"]
        assert x >= 0
        assert y >= 0
        assert x + width <= 208
        assert y + height <= 208
        assert row["area"] == width * height > 0
        assert row["iscrowd"] == (row["visible"] < MIN_VISIBLE)
    assert any(row["iscrowd"] for row in rows)


@pytest.fixture
def block() -> Sprite:
    """A rectangle of 40 x 20 canvas pixels."""
    return Sprite(np.full((40, 20, 3), 200, np.uint8), np.full((40, 20), 255, np.uint8), foot_x=10.0)


def test_box_and_visible_share_by_hand(block: Sprite) -> None:
    canvas, owners = np.zeros((100, 120, 3), np.uint8), np.zeros((100, 120), np.uint8)
    figure = Placed(block, x=60.0, y=90.0)  # columns 50..70, rows 50..90
    paste(canvas, owners, block, block.placed_at(60.0, 90.0), 1)
    assert measure(figure, 1, owners).box == (
        50 / SUPERSAMPLING,
        50 / SUPERSAMPLING,
        70 / SUPERSAMPLING,
        90 / SUPERSAMPLING,
    )
    assert measure(figure, 1, owners).visible == 1.0
    paste(canvas, owners, block, block.placed_at(65.0, 100.0), 2)  # hides 15 of 20 columns, 30 of 40 rows
    hidden = measure(figure, 1, owners)
    assert hidden.visible == 1 - (15 * 30) / (20 * 40)
    assert hidden.box == measure(figure, 1, np.zeros_like(owners)).box  # hidden parts belong to the box


def test_a_figure_cut_by_the_edge_counts_as_partly_visible(block: Sprite) -> None:
    canvas, owners = np.zeros((100, 120, 3), np.uint8), np.zeros((100, 120), np.uint8)
    paste(
        canvas, owners, block, block.placed_at(0.0, 110.0), 1
    )  # half of it left of, a quarter below the edge
    label = measure(Placed(block, 0.0, 110.0), 1, owners)
    assert label.box == (0, 70 / SUPERSAMPLING, 10 / SUPERSAMPLING, 100 / SUPERSAMPLING)
    assert label.visible == 0.5 * 0.75


def test_figures_have_the_height_asked_for_and_a_tight_mask() -> None:
    rng = np.random.default_rng(0)
    for height in (12, 40, 150, 300):
        sprites = [draw_figure(height, rng) for _ in range(40)]
        assert 0.85 < np.median([sprite.mask.shape[0] for sprite in sprites]) / height < 1.15
        for sprite in sprites:
            for edge in (sprite.mask[0], sprite.mask[-1], sprite.mask[:, 0], sprite.mask[:, -1]):
                assert edge.any()
            assert sprite.mask.shape[0] > sprite.mask.shape[1]  # upright


@pytest.mark.parametrize("kind", sorted(PROPS))
def test_every_prop_draws_something_within_its_paper(kind: str) -> None:
    rng = np.random.default_rng(1)
    for unit in (8.0, 200.0):
        for _ in range(10):
            sprite = draw_prop(kind, unit, rng)
            assert cv2.countNonZero(sprite.mask) > 0
            assert sprite.image.shape == (*sprite.mask.shape, 3)


def test_people_are_smaller_further_up() -> None:
    camera = build_camera((208, 208), np.random.default_rng(2))
    rows = np.linspace(camera.far_y, camera.near_y, 20)
    heights = [camera.person_height(y) for y in rows]
    assert all(np.diff(heights) > 0)
    assert camera.foot_row(heights[7]) == pytest.approx(rows[7])


def test_nothing_is_left_where_generation_fails(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_cctv(tmp_path / "set", count={"train": 2}, size=(64, 64), on_image=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("count", "size"),
    [({"train": 0}, (64, 64)), ({"tset": 1}, (64, 64)), ({}, (64, 64)), ({"train": 1}, (8, 8))],
)
def test_counts_and_sizes_that_make_no_sense(count, size, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"count must|size must"):
        generate_cctv(tmp_path / "set", count=count, size=size)


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError):
        generate_cctv(tmp_path / "set", count={"train": 1}, size=(64, 64))
    assert (tmp_path / "set" / "mine.txt").read_text() == "precious"
