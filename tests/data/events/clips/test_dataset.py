from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from shared.data.events.clips.dataset import ClipBatch, ClipDataset, collate
from shared.data.events.clips.frame_set import FrameSet, read_frame_set
from shared.data.events.clips.plan import PADDING, Clip, ClipSampler, EvaluationSampler
from tests.data.events.clips.preprocessed import Drawn, frame_of, labelled, write_set

SHAPE = (2, 64, 96)


@pytest.fixture
def frames(tmp_path: Path) -> FrameSet:
    boxes = {
        1: [(8, 10, 12, 20, 0, 7), (50, 40, 30, 10, 1, 9)],
        2: [(10, 10, 12, 20, 0, 7)],
        4: [(0, 0, 5, 5, 1, 9)],
    }
    return read_frame_set(
        write_set(tmp_path / "set", {"train": {"a": Drawn(5, boxes), "b": labelled(4, 2, 3)}}), "train"
    )


def test_a_batch_has_frames_by_time_and_lane_and_the_boxes_of_labelled_windows(frames: FrameSet) -> None:
    dataset = ClipDataset(frames, sequence_length=3)
    clips = [Clip(0, 1, 3, 0, False), Clip(1, 1, 3, 1, True)]
    batch = collate([dataset[clip] for clip in clips])
    assert (batch.frames.dtype, tuple(batch.frames.shape)) == (torch.uint8, (3, 2, *SHAPE))
    for step in range(3):
        for lane in range(2):
            assert np.array_equal(batch.frames[step, lane].numpy(), frame_of(1 + step, SHAPE))
    # labels: lane 0 at steps 0, 1; lane 1 at steps 1, 2
    assert batch.labelled.tolist() == [0, 2, 3, 5]
    assert batch.windows == [(0, 1, 100_000), (0, 2, 150_000), (1, 2, 150_000), (1, 3, 200_000)]
    assert batch.objects.dtype == torch.float32
    assert batch.objects.tolist() == [
        [[0, 14, 20, 12, 20], [1, 65, 45, 30, 10]],
        [[0, 16, 20, 12, 20], [0, 0, 0, 0, 0]],
        [[0, 14, 20, 12, 20], [0, 0, 0, 0, 0]],
        [[0, 14, 20, 12, 20], [0, 0, 0, 0, 0]],
    ]
    assert batch.pairs.tolist() == [[0, 1], [2, 3]]
    assert batch.first.tolist() == [False, True]
    assert (batch.clips, batch.box_count) == (clips, 5)


def test_pairs_are_of_labelled_windows_that_follow_each_other_in_a_lane(frames: FrameSet) -> None:
    dataset = ClipDataset(frames, sequence_length=4)
    batch = collate([dataset[Clip(1, 0, 4, 0, True)], dataset[Clip(0, 1, 4, 1, True)]])
    # rows: (step, lane) = (0, 1), (1, 1), (2, 0), (3, 0), (3, 1)
    assert batch.labelled.tolist() == [1, 3, 4, 6, 7]
    assert batch.pairs.tolist() == [[0, 1], [2, 3], [1, 4]]


def test_clips_without_labels_and_lanes_that_ended_are_run_and_count_for_nothing(frames: FrameSet) -> None:
    dataset = ClipDataset(frames, sequence_length=2)
    batch = collate([dataset[Clip(1, 0, 2, 0, True)], dataset[Clip(PADDING, 0, 0, 1, True)]])
    assert tuple(batch.frames.shape) == (2, 2, *SHAPE)
    assert batch.frames[:, 0].any()
    assert not batch.frames[:, 1].any()
    assert (tuple(batch.labelled.shape), tuple(batch.pairs.shape), batch.windows) == ((0,), (0, 2), [])
    assert (tuple(batch.objects.shape), batch.box_count) == ((0, 0, 5), 0)


def test_a_shorter_clip_is_filled_with_zeros_at_its_end(frames: FrameSet) -> None:
    sample = ClipDataset(frames, sequence_length=4)[Clip(0, 4, 1, 0, False)]
    assert np.array_equal(sample.frames[0], frame_of(4, SHAPE))
    assert sample.frames.shape == (4, *SHAPE)
    assert not sample.frames[1:].any()
    assert collate([sample]).windows == [(0, 4, 250_000)]


def test_a_window_whose_boxes_all_left_has_no_label(frames: FrameSet) -> None:
    def without_class_1(frames, boxes, clip):
        return frames, boxes.select(boxes.classes == 0)

    dataset = ClipDataset(frames, sequence_length=5, augmentation=without_class_1)
    batch = collate([dataset[Clip(0, 0, 5, 0, True)]])
    assert batch.labelled.tolist() == [1, 2]
    assert batch.objects[:, :, 1].tolist() == [[14], [16]]


def test_a_batch_moves_as_a_whole(frames: FrameSet) -> None:
    batch = collate([ClipDataset(frames, sequence_length=3)[Clip(0, 0, 3, 0, True)]])
    moved = batch.to("meta")
    for name in ("frames", "labelled", "objects", "pairs", "first"):
        assert getattr(moved, name).device.type == "meta"
        assert getattr(moved, name).shape == getattr(batch, name).shape
    assert (moved.windows, moved.clips) == (batch.windows, batch.clips)


@pytest.mark.parametrize("kept", [False, True])
def test_loader_processes_give_the_same_batches_as_none(frames: FrameSet, kept: bool) -> None:
    part = frames.cached() if kept else frames
    sampler = ClipSampler(part, sampling="mixed", sequence_length=2, batch_size=2, seed=5)
    dataset = ClipDataset(part, sequence_length=2)

    def batches(workers: int) -> list[ClipBatch]:
        return list(DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=workers))

    alone, with_workers = batches(0), batches(2)
    assert len(alone) == len(with_workers) == len(sampler) > 2
    for one, other in zip(alone, with_workers, strict=True):
        assert one.clips == other.clips
        assert torch.equal(one.frames, other.frames)
        assert torch.equal(one.objects, other.objects)


def test_evaluation_gives_every_labelled_window_once(frames: FrameSet) -> None:
    lanes = EvaluationSampler(frames, sequence_length=2, lanes=2)
    loader = DataLoader(ClipDataset(frames, sequence_length=2), batch_sampler=lanes, collate_fn=collate)
    windows = [(window.recording, window.window) for batch in loader for window in batch.windows]
    assert sorted(windows) == [(0, 1), (0, 2), (0, 4), (1, 2), (1, 3)]
