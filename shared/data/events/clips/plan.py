"""Which clips make up an epoch: a function of the seed and the epoch. Events spec, section 9.

A clip is a run of windows of one recording. Clips of one lane (index within the batch) that follow each other
go on where the one before ended, so that the network's state can be carried, unless the later one is `first`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.data.events.clips.frame_set import FrameSet

Sampling = Literal["stream", "random", "mixed"]
PADDING = -1  # instead of a recording


@dataclass(frozen=True, slots=True)
class Clip:
    """Windows start..start+length-1 of a recording.

    recording: index in the FrameSet, or PADDING where a lane has none left; length is then 0. first: the
    state before it is zero. seed: of its augmentation, the same for all clips of a piece. streamed: the state
    is carried from clip to clip, as against a single clip that ends at a label.
    """

    recording: int
    start: int
    length: int
    lane: int
    first: bool
    seed: int = 0
    streamed: bool = True


@dataclass(frozen=True, slots=True)
class Piece:
    """Windows begin..end-1 of a recording, any `sequence_length` of which in a row hold a label."""

    recording: int
    begin: int
    end: int


def pieces(frames: FrameSet, sequence_length: int) -> list[Piece]:
    """Cut recordings where consecutive labels are more than `sequence_length` windows apart.

    A piece begins up to sequence_length - 1 windows before its first label and ends after its last one; one
    that would be shorter than a clip goes on after that. Recordings shorter than a clip have none.
    """
    found = []
    for recording, record in enumerate(frames.records):
        if len(record) < sequence_length or not len(record.labelled):
            continue
        cuts = np.flatnonzero(np.diff(record.labelled) > sequence_length) + 1
        for labels in np.split(record.labelled, cuts):
            begin = max(int(labels[0]) - sequence_length + 1, 0)
            found.append(Piece(recording, begin, max(int(labels[-1]) + 1, begin + sequence_length)))
    return found


class ClipSampler:
    """Batches of clips, all `sequence_length` windows long: `batch_size` lanes in each of them.

    stream: each epoch lays all pieces one after another in a new order, cuts that tape into as many equal
    parts as there are lanes of all ranks, and plays them side by side. Every piece is played once; where
    clips do not divide by lanes, the tape goes on from its beginning, so no lane is padded. A piece has
    as many clips as fit; which of the up to sequence_length - 1 windows are left over changes by epoch.
    random: clips that end at a labelled window, drawn without repetition, as many as there are labelled
    windows / sequence_length. mixed: the first half of the lanes is of the first kind (the larger half),
    the others of the second; the stream's length is the epoch's.

    An epoch's batches number (clips / lanes of all ranks), rounded up. Give it to a DataLoader as
    `batch_sampler`; Lightning calls `set_epoch` through `sampler`. unused: names of recordings that have no
    clip, being too short or without labels.
    """

    def __init__(
        self,
        frames: FrameSet,
        *,
        sampling: Sampling,
        sequence_length: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """`batch_size`: lanes of this rank. Raises ValueError where no clip can be drawn so."""
        if sequence_length < 1 or batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(
                f"sequence_length and batch_size must be 1 or more and rank one of {world_size}, got "
                f"{sequence_length}, {batch_size} and {rank}"
            )
        if sampling == "mixed" and batch_size < 2:
            raise ValueError(
                "mixed sampling needs a batch of 2 or more: half streams, half single clips; "
                "use sampling stream or random"
            )
        self._streamed = {"stream": batch_size, "random": 0, "mixed": (batch_size + 1) // 2}[sampling]
        self._single = batch_size - self._streamed
        self._length, self._seed, self._rank, self._world_size = sequence_length, seed, rank, world_size
        self._pieces = pieces(frames, sequence_length)
        self._ends = _clip_ends(frames, sequence_length)
        if (self._streamed and not self._pieces) or (self._single and not len(self._ends)):
            longest = max((len(record) for record in frames.records), default=0)
            raise ValueError(
                f"{frames.source} has no clip of {sequence_length} windows with a label"
                f"{' at its end' if self._single else ''} (the longest recording has {longest}); "
                "use a shorter sequence_length"
            )
        used = {piece.recording for piece in self._pieces} if self._streamed else set()
        used |= set(self._ends[:, 0].tolist()) if self._single else set()
        self.unused = [record.name for index, record in enumerate(frames.records) if index not in used]
        clips = (
            sum((piece.end - piece.begin) // sequence_length for piece in self._pieces)
            if self._streamed
            else -(-frames.labelled_windows // sequence_length)
        )
        self._batches = -(-clips // (world_size * (self._streamed or self._single)))
        self.sampler = self
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, whose clips are drawn."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[Clip]]:
        rng = np.random.default_rng((self._seed, self.epoch))
        tape = self._tape(rng) if self._streamed else []
        singles = self._singles(rng) if self._single else []
        for batch in range(self._batches):
            yield [self._stream_clip(tape, lane, batch) for lane in range(self._streamed)] + [
                self._single_clip(singles, lane, batch) for lane in range(self._single)
            ]

    def _stream_clip(self, tape: list[tuple[int, int, bool, int]], lane: int, batch: int) -> Clip:
        part = self._rank * self._streamed + lane
        recording, start, first, seed = tape[(part * self._batches + batch) % len(tape)]
        return Clip(recording, start, self._length, lane, first or batch == 0, seed)

    def _single_clip(self, singles: list[tuple[int, int, int]], lane: int, batch: int) -> Clip:
        place = (batch * self._world_size + self._rank) * self._single + lane
        recording, end, seed = singles[place]
        start = end + 1 - self._length
        return Clip(recording, start, self._length, self._streamed + lane, True, seed, streamed=False)

    def _tape(self, rng: np.random.Generator) -> list[tuple[int, int, bool, int]]:
        """(recording, start, whether a piece begins, seed) of all clips of the epoch."""
        tape = []
        for number in rng.permutation(len(self._pieces)).tolist():
            piece = self._pieces[number]
            count, spare = divmod(piece.end - piece.begin, self._length)
            begin = piece.begin + int(rng.integers(0, spare + 1))
            seed = int(rng.integers(2**63))
            tape += [(piece.recording, begin + clip * self._length, clip == 0, seed) for clip in range(count)]
        return tape

    def _singles(self, rng: np.random.Generator) -> list[tuple[int, int, int]]:
        """(recording, last window, seed) of as many clips as the epoch has of all ranks."""
        number = self._batches * self._single * self._world_size
        rounds = -(-number // len(self._ends))
        order: NDArray[np.int64] = np.concatenate([rng.permutation(self._ends) for _ in range(rounds)])
        seeds = rng.integers(2**63, size=number)
        return [
            (recording, end, seed)
            for (recording, end), seed in zip(order[:number].tolist(), seeds.tolist(), strict=True)
        ]


def _clip_ends(frames: FrameSet, sequence_length: int) -> NDArray[np.int64]:
    """(recording, window) of every labelled window with enough windows before it: int64 [K, 2]."""
    ends = [
        (recording, window)
        for recording, record in enumerate(frames.records)
        for window in record.labelled.tolist()
        if window + 1 >= sequence_length
    ]
    return np.array(ends, np.int64).reshape(-1, 2)


class EvaluationSampler:
    """Every window of every recording once, in order, whole recordings side by side in up to `lanes` lanes.

    Recordings go to lanes longest first, each to the lane that has the least so far. A recording's last clip
    may be shorter than `sequence_length`; lanes that end before others have clips of PADDING.
    """

    def __init__(self, frames: FrameSet, *, sequence_length: int, lanes: int) -> None:
        """Raises ValueError for lengths or lanes below 1."""
        if sequence_length < 1 or lanes < 1:
            raise ValueError(
                f"sequence_length and lanes must be 1 or more, got {sequence_length} and {lanes}"
            )
        lengths = [len(record) for record in frames.records]
        self._lanes: list[list[Clip]] = [[] for _ in range(min(lanes, len(lengths)))]
        for recording in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
            lane = min(range(len(self._lanes)), key=lambda index: len(self._lanes[index]))
            self._lanes[lane] += [
                Clip(recording, start, min(sequence_length, lengths[recording] - start), lane, start == 0)
                for start in range(0, lengths[recording], sequence_length)
            ]

    def __len__(self) -> int:
        return max((len(clips) for clips in self._lanes), default=0)

    def __iter__(self) -> Iterator[list[Clip]]:
        for batch in range(len(self)):
            yield [
                clips[batch] if batch < len(clips) else Clip(PADDING, 0, 0, lane, True)
                for lane, clips in enumerate(self._lanes)
            ]
