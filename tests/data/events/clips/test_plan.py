import itertools
import pickle
from collections import Counter
from pathlib import Path

import pytest

from shared.data.events.clips.frame_set import FrameSet, read_frame_set
from shared.data.events.clips.plan import (
    PADDING,
    Clip,
    ClipSampler,
    EvaluationSampler,
    Piece,
    pieces,
)
from tests.data.events.clips.preprocessed import Drawn, labelled, write_set


@pytest.fixture
def frames_of(tmp_path: Path):
    def read(*recordings: Drawn) -> FrameSet:
        drawn = {f"r{number}": recording for number, recording in enumerate(recordings)}
        return read_frame_set(write_set(tmp_path / "set", {"train": drawn}), "train")

    return read


def sampler(frames: FrameSet, sampling="stream", length=4, batch=2, seed=0, **options) -> ClipSampler:
    return ClipSampler(
        frames, sampling=sampling, sequence_length=length, batch_size=batch, seed=seed, **options
    )


def played(batches: list[list[Clip]], streamed: bool = True) -> Counter[tuple[int, int]]:
    """How often each window of each recording comes."""
    return Counter(
        (clip.recording, clip.start + step)
        for batch in batches
        for clip in batch
        if clip.streamed == streamed
        for step in range(clip.length)
    )


def test_recordings_are_cut_where_labels_are_more_than_a_clip_apart(frames_of) -> None:
    # 5 and 9 are 4 apart, no more than a clip; 9 and 14 are 5 apart
    frames = frames_of(labelled(20, 5, 9, 14), labelled(8, 1), labelled(3, 1), labelled(30, 0, 4, 8))
    assert pieces(frames, 4) == [
        Piece(0, 2, 10),
        Piece(0, 11, 15),
        Piece(1, 0, 4),  # windows 2 and 3 come after the label, so that there is a whole clip
        Piece(3, 0, 9),  # the recording of 3 windows has no clip
    ]
    assert sampler(frames).unused == ["r2"]
    assert sampler(frames, "random").unused == ["r1", "r2"]  # its label is too early
    assert sampler(frames, "mixed").unused == ["r2"]


def test_every_clip_of_a_piece_holds_a_label(frames_of) -> None:
    frames = frames_of(labelled(60, 3, 6, 10, 11, 15, 30, 31, 55), labelled(40, 0, 17, 20, 24, 39))
    where = [set(record.labelled.tolist()) for record in frames.records]
    for length in (1, 2, 4, 5, 7):
        for piece in pieces(frames, length):
            assert piece.end - piece.begin >= length
            for start in range(piece.begin, piece.end - length + 1):
                assert where[piece.recording] & set(range(start, start + length))


def test_a_stream_plays_every_piece_once_and_lanes_go_on_where_they_were(frames_of) -> None:
    frames = frames_of(labelled(12, *range(3, 12)), labelled(8, *range(3, 8)), labelled(16, *range(3, 16)))
    epoch = sampler(frames)  # pieces of 3, 2 and 4 clips of 4 windows
    assert len(epoch) == 5  # 9 clips in 2 lanes
    for number in range(5):
        epoch.set_epoch(number)
        batches = list(epoch)
        assert len(batches) == 5
        windows = played(batches)
        assert windows.total() == 5 * 2 * 4
        assert set(windows) == {(r, w) for r, length in enumerate((12, 8, 16)) for w in range(length)}
        assert sorted(windows.values()) == [1] * 32 + [2] * 4  # one clip more than there are, from the front
        for lane in (0, 1):
            clips = [batch[lane] for batch in batches]
            assert {(clip.lane, clip.length, clip.streamed) for clip in clips} == {(lane, 4, True)}
            assert clips[0].first
            for before, clip in itertools.pairwise(clips):
                if clip.first:
                    assert clip.start == 0
                else:
                    assert (clip.recording, clip.start) == (before.recording, before.start + 4)
                    assert clip.seed == before.seed
        seeds = {clip.recording: clip.seed for batch in batches for clip in batch}
        assert len(set(seeds.values())) == 3


def test_windows_left_over_change_with_the_epoch(frames_of) -> None:
    frames = frames_of(labelled(10, *range(3, 10)))  # 2 clips of 4, and 2 windows more
    epoch = sampler(frames, batch=1)
    starts = set()
    for number in range(30):
        epoch.set_epoch(number)
        first, second = (batch[0] for batch in epoch)
        assert (first.first, second.first, second.start) == (True, False, first.start + 4)
        starts.add(first.start)
    assert starts == {0, 1, 2}


def test_random_clips_end_at_labels_that_have_a_whole_clip_before_them(frames_of) -> None:
    frames = frames_of(labelled(20, 2, 3, 7, 12, 15, 19), labelled(9, 8), labelled(3, 2))
    epoch = sampler(frames, "random", batch=2)
    assert len(epoch) == 1  # 8 labelled windows / 4
    ends: Counter[tuple[int, int]] = Counter()
    for number in range(60):
        epoch.set_epoch(number)
        clips = [clip for batch in epoch for clip in batch]
        assert [clip.lane for clip in clips] == [0, 1]
        assert all(clip.first and clip.length == 4 and not clip.streamed for clip in clips)
        assert len({(clip.recording, clip.start) for clip in clips}) == 2
        ends.update((clip.recording, clip.start + 3) for clip in clips)
    assert set(ends) == {(0, 3), (0, 7), (0, 12), (0, 15), (0, 19), (1, 8)}


def test_mixed_batches_have_streams_first_and_single_clips_after(frames_of) -> None:
    frames = frames_of(labelled(16, *range(3, 16)), labelled(8, *range(3, 8)))
    for batch, streams in ((2, 1), (3, 2), (4, 2)):
        epoch = sampler(frames, "mixed", batch=batch)
        assert len(epoch) == 6 // streams  # 6 clips of the stream
        for clips in epoch:
            assert [clip.lane for clip in clips] == list(range(batch))
            assert [clip.streamed for clip in clips] == [True] * streams + [False] * (batch - streams)
            assert all(clip.first for clip in clips[streams:])
        assert set(played(list(epoch)).values()) == {1}
    with pytest.raises(ValueError, match="batch of 2 or more"):
        sampler(frames, "mixed", batch=1)


def test_an_epoch_is_a_function_of_seed_and_epoch(frames_of) -> None:
    frames = frames_of(*(labelled(14, *range(5, 14)) for _ in range(4)))
    for sampling in ("stream", "random", "mixed"):
        one, other = sampler(frames, sampling), sampler(frames, sampling)
        one.set_epoch(3)
        assert list(other) != list(one)
        other.set_epoch(3)
        assert list(other) == list(one) == list(one)
        assert list(sampler(frames, sampling, seed=1)) != list(sampler(frames, sampling))
        assert pickle.loads(pickle.dumps(list(one))) == list(one)


def test_ranks_share_an_epoch_without_overlap(frames_of) -> None:
    frames = frames_of(*(labelled(16, *range(3, 16)) for _ in range(3)))  # 12 clips, 39 ends
    ranks = [sampler(frames, "stream", batch=2, rank=rank, world_size=3) for rank in range(3)]
    assert [len(rank) for rank in ranks] == [2, 2, 2]
    together = sum((played(list(rank)) for rank in ranks), Counter())
    assert together == Counter((r, w) for r in range(3) for w in range(16))
    ranks = [sampler(frames, "random", batch=2, rank=rank, world_size=2) for rank in range(2)]
    assert [len(rank) for rank in ranks] == [3, 3]  # 39 / 4, in 4 lanes
    clips = [(clip.recording, clip.start) for rank in ranks for batch in rank for clip in batch]
    assert len(set(clips)) == len(clips) == 12


def test_a_stream_of_fewer_clips_than_lanes_is_one_batch(frames_of) -> None:
    frames = frames_of(labelled(8, *range(3, 8)))
    (batch,) = sampler(frames, batch=5)
    assert [clip.start for clip in batch] == [0, 4, 0, 4, 0]
    assert all(clip.first for clip in batch)


def test_what_cannot_be_drawn_is_refused(frames_of) -> None:
    frames = frames_of(labelled(6, 2))
    with pytest.raises(
        ValueError, match=r"no clip of 8 windows with a label .* has 6.*shorter sequence_length"
    ):
        sampler(frames, length=8)
    with pytest.raises(ValueError, match="with a label at its end"):
        sampler(frames, "random", length=5)
    with pytest.raises(ValueError, match="1 or more"):
        sampler(frames, length=0)
    with pytest.raises(ValueError, match="rank one of 2"):
        sampler(frames, rank=2, world_size=2)


def test_a_stream_needs_no_label_with_a_whole_clip_before_it(frames_of) -> None:
    (batch,) = sampler(frames_of(labelled(6, 2)), length=5, batch=1)
    assert [(clip.start, clip.first) for clip in batch] == [(0, True)]


def test_evaluation_plays_every_window_once_in_order(frames_of) -> None:
    lengths = (5, 21, 8, 13, 4)
    frames = frames_of(*(labelled(length, length - 1) for length in lengths))
    lanes = EvaluationSampler(frames, sequence_length=4, lanes=2)
    batches = list(lanes)
    assert played(batches) == Counter((r, w) for r, length in enumerate(lengths) for w in range(length))
    # clips: 2, 6, 2, 4, 1; longest first to the emptier lane: 6, 2 | 4, 2, 1
    assert len(lanes) == len(batches) == 8
    assert [[clip.recording for clip in batch] for batch in batches] == [
        *[[1, 3]] * 4,
        *[[1, 2]] * 2,
        [0, 4],
        [0, PADDING],
    ]
    for lane in (0, 1):
        place = None
        for clip in (batch[lane] for batch in batches):
            assert clip.lane == lane
            if clip.recording == PADDING:
                assert (clip.length, clip.first) == (0, True)
                continue
            assert clip.first == (clip.start == 0)
            assert clip.first or place == (clip.recording, clip.start)
            assert clip.length == min(4, lengths[clip.recording] - clip.start)
            place = (clip.recording, clip.start + clip.length)


def test_evaluation_has_no_more_lanes_than_recordings(frames_of) -> None:
    frames = frames_of(labelled(5, 4), labelled(3, 2))
    assert [len(batch) for batch in EvaluationSampler(frames, sequence_length=2, lanes=8)] == [2, 2, 2]
    with pytest.raises(ValueError, match="1 or more"):
        EvaluationSampler(frames, sequence_length=0, lanes=1)
