import io
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from shared.data.check import check_dataset
from shared.data.duplicates import NEAR_BITS, Look, look_alikes


def found(report) -> set[tuple[str, str, str]]:
    return {(defect.severity.value, defect.code, defect.where) for defect in report.defects}


def test_a_generated_set_is_fine(cctv: Path) -> None:
    steps: list[tuple[int, int]] = []
    report = check_dataset(cctv, progress=lambda done, total: steps.append((done, total)))
    assert report.ok
    assert report.errors == report.warnings == 0
    assert {split.name: split.images for split in report.splits} == {"train": 120, "val": 24, "test": 24}
    assert steps[-1] == (168, 168)
    assert len(steps) == 168


def test_counts_and_sizes_by_hand(write_coco) -> None:
    root = write_coco({1: [[0, 0, 10, 20], [10, 10, 40, 30]], 2: [[0, 0, 64, 48]], 3: []})
    split = check_dataset(root).splits[0]
    assert (split.images, split.images_without_boxes, split.boxes, split.crowd_boxes) == (3, 1, 3, 0)
    assert split.image_sizes == {"64 x 48": 3}
    people = next(entry for entry in split.classes if entry.name == "person")
    assert (people.boxes, people.images) == (3, 2)
    assert split.box_sizes is not None
    # areas 200, 1200, 3072 against 32² = 1024 and 96² = 9216
    assert (split.box_sizes.small, split.box_sizes.medium, split.box_sizes.large) == (1, 2, 0)
    assert split.box_sizes.height_px.median == 30
    assert split.box_sizes.relative_height.max == 1.0


def test_files_that_are_missing_broken_or_unlisted(write_coco, write_picture) -> None:
    root = write_coco({number: [[0, 0, 9, 9]] for number in range(1, 6)})
    (root / "train" / "1.png").unlink()
    (root / "train" / "2.png").write_bytes((root / "train" / "2.png").read_bytes()[:-20])
    (root / "train" / "3.png").write_bytes(b"<html>not found</html>")
    (root / "train" / "4.png").write_bytes(b"")
    write_picture(root / "train" / "stray.png", seed=77)
    report = check_dataset(root)
    assert not report.ok
    assert report.errors == 4
    assert {
        ("error", "missing_image", "1.png"),
        ("error", "truncated_image", "2.png"),
        ("error", "unreadable_image", "3.png"),
        ("error", "unreadable_image", "4.png"),
        ("warning", "image_not_listed", "stray.png"),
    } <= found(report)
    assert report.splits[0].images == 5


def test_rotation_by_exif(write_coco, write_picture) -> None:
    sizes = {1: (48, 64), 2: (64, 48), 3: (50, 50)}  # labels upright, labels as stored, labels of neither
    images = [
        {"id": number, "file_name": f"{number}.jpg", "width": width, "height": height}
        for number, (width, height) in sizes.items()
    ]
    root = write_coco({}, images=images)
    for number in sizes:
        write_picture(root / "train" / f"{number}.jpg", 64, 48, seed=number, exif=6)
    report = check_dataset(root)
    assert {
        ("note", "exif_rotation", "1.jpg"),
        ("error", "exif_size_mismatch", "2.jpg"),
        ("error", "size_mismatch", "3.jpg"),
    } <= found(report)


def test_a_half_turn_by_exif_cannot_be_told_from_sizes(write_coco, write_picture) -> None:
    root = write_coco({}, images=[{"id": 1, "file_name": "1.jpg", "width": 64, "height": 48}])
    write_picture(root / "train" / "1.jpg", 64, 48, exif=3)
    assert ("warning", "exif_rotation", "1.jpg") in found(check_dataset(root))


def test_equal_files_within_and_across_splits(write_coco) -> None:
    root = write_coco({1: [], 2: [], 3: []}, "train")
    write_coco({7: [], 8: []}, "val")
    shutil.copy(root / "train" / "1.png", root / "train" / "2.png")
    shutil.copy(root / "train" / "3.png", root / "val" / "8.png")
    report = check_dataset(root)
    assert ("warning", "duplicate_image", "2.png") in found(report)
    assert ("error", "duplicate_across_splits", "8.png") in found(report)
    assert report.errors == 1


def test_the_same_picture_in_another_quality_is_a_near_duplicate(write_coco, cctv: Path) -> None:
    # By day: what a strong compression makes of a night's noise is no longer the same picture.
    labels = json.loads((cctv / "annotations" / "train.json").read_text())
    by_day = next(image["file_name"] for image in labels["images"] if image["light"] == "day")
    source = Image.open(cctv / "train" / by_day)
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 208, "height": 208} for n in (1, 2)]
    root = write_coco({}, images=images)
    (root / "train").mkdir()
    for number, quality in ((1, 95), (2, 60)):
        buffer = io.BytesIO()
        source.save(buffer, "JPEG", quality=quality)
        (root / "train" / f"{number}.jpg").write_bytes(buffer.getvalue())
    report = check_dataset(root)
    assert ("note", "near_duplicate", "2.jpg") in found(report)
    assert report.ok


def test_look_alikes_agree_with_counting_bits_one_by_one() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**63, (200, 4)).astype(np.uint64)
    for row, flips in ((150, NEAR_BITS), (199, NEAR_BITS + 1), (70, 1)):
        hashes[row] = hashes[row - 30]
        for bit in range(flips):
            hashes[row, bit % 4] ^= np.uint64(1) << np.uint64(bit)
    expected = []
    for later in range(200):
        for earlier in range(later):
            bits = sum(int(a ^ b).bit_count() for a, b in zip(hashes[later], hashes[earlier], strict=True))
            if bits <= NEAR_BITS:
                expected.append((earlier, later))
                break
    assert (120, 150) in expected
    same = rng.normal(0, 5, (64, 64)).astype(np.float16)
    looks = [Look(str(row), hashes[row], same) for row in range(200)]
    assert list(look_alikes(looks)) == expected
    other = [Look(str(row), hashes[row], rng.normal(0, 5, (64, 64)).astype(np.float16)) for row in range(200)]
    assert list(look_alikes(other)) == []


def test_defects_of_labels_and_crowds_are_reported(write_coco) -> None:
    rows = [
        {"id": 1, "image_id": 1, "category_id": 7, "bbox": [0, 0, 0, 5]},
        {"id": 2, "image_id": 1, "category_id": 9, "bbox": [0, 0, 5, 5]},
        {"id": 3, "image_id": 1, "category_id": 7, "bbox": [0, 0, 30, 30], "iscrowd": 1},
    ]
    report = check_dataset(write_coco({1: [], 2: []}, annotations=rows))
    assert report.defect_counts["empty_box"] == 1
    assert report.defect_counts["unknown_category"] == 1
    assert report.defect_counts["crowd"] == 1
    assert ("note", "no_labels", "2.png") in found(report)
    assert report.errors == 2
    assert report.splits[0].crowd_boxes == 1
    assert report.splits[0].boxes == 0


def test_one_unreadable_split_does_not_hide_the_others(write_coco) -> None:
    write_coco({1: []}, "train")
    root = write_coco({2: []}, "val")
    (root / "annotations" / "val.json").write_text("{")
    report = check_dataset(root)
    assert [split.name for split in report.splits] == ["train"]
    assert report.defect_counts["unreadable_dataset"] == 1
    assert not report.ok


def test_a_folder_of_something_else_is_an_error_in_the_report(tmp_path: Path) -> None:
    report = check_dataset(tmp_path)
    assert not report.ok
    assert "cannot tell the format" in report.defects[0].detail


def test_splits_that_share_a_folder_of_pictures_list_each_others_files(write_coco) -> None:
    write_coco({1: []}, "train")
    root = write_coco({2: []}, "val")
    (root / "images").mkdir()
    (root / "train" / "1.png").rename(root / "images" / "1.png")
    (root / "val" / "2.png").rename(root / "images" / "2.png")
    (root / "train").rmdir()
    (root / "val").rmdir()
    report = check_dataset(root)
    assert report.ok
    assert "image_not_listed" not in report.defect_counts
