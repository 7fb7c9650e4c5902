"""What a stream network carries from window to window, in training and in evaluation."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from shared.data.events.clips.dataset import ClipBatch, LabelledWindow
from shared.data.events.clips.frame_set import read_frame_set
from shared.data.events.clips.plan import Clip
from shared.families import get_family
from shared.families.family import StreamFamily, StreamInput
from tests.data.events.clips.preprocessed import Drawn, write_set
from training.tasks import TASKS
from training.tasks.stream_clips import labelled_features, run_clip
from training.tasks.stream_evaluation import evaluate

TASK = TASKS["stream_detection"]
EVENTS = get_family("events")
CONFIG = EVENTS.config(sensor="custom", height=32, width=32, class_names=["a", "b"], bins=1)


def batch_of(frames, labelled=(), first=(False, False)):
    """Two lanes; one box of class 0 in each labelled window (t * 2 + lane)."""
    box = torch.tensor([0.0, 16, 16, 12, 12]).expand(len(labelled), 1, 5)
    clips = [Clip(0, 0, len(frames), lane, start) for lane, start in enumerate(first)]
    return ClipBatch(
        frames,
        torch.tensor(labelled, dtype=torch.int64),
        box,
        torch.zeros(0, 2, dtype=torch.int64),
        torch.tensor(first),
        [LabelledWindow(0, place // 2, 0) for place in labelled],
        clips,
    )


@pytest.fixture
def network():
    torch.manual_seed(0)
    built = EVENTS.build(CONFIG)
    for parameter in built.parameters():  # layer scales begin near zero, which would hide what goes on
        if parameter.ndim == 1 and float(parameter.detach().abs().max()) < 1e-4:
            nn.init.constant_(parameter, 0.5)
    return built.eval()


def windows(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 5, (count, 2, 2, 32, 32), generator=generator, dtype=torch.uint8)


@torch.no_grad()
def test_two_clips_in_a_row_are_one_longer_stream_and_a_first_clip_begins_anew(network):
    frames = windows(5)
    _, memory = run_clip(network, batch_of(frames[:3]), None, channels_last=False)
    second = batch_of(frames[3:], first=(False, True))
    features, after = run_clip(network, second, memory, channels_last=False)

    states = None
    for frame in frames[:, :1]:
        found, states = network.recur(frame, states)
    assert torch.allclose(features[0][-1, :1], found[0], atol=1e-6)
    assert torch.allclose(after[0][1][:1], states[0][1], atol=1e-6)

    states = None
    for frame in frames[3:, 1:]:
        _, states = network.recur(frame, states)
    assert torch.allclose(after[0][1][1:], states[0][1], atol=1e-6)
    assert not torch.allclose(after[0][1][:1], after[0][1][1:], atol=1e-2)


@torch.no_grad()
def test_what_a_broken_stream_left_does_not_reach_the_next_one(network):
    frames = windows(1)
    _, memory = run_clip(network, batch_of(frames), None, channels_last=True)
    memory[0][1][1] = float("nan")
    _, after = run_clip(network, batch_of(frames, first=(False, True)), memory, channels_last=True)
    assert torch.isfinite(after[0][1]).all()


@torch.no_grad()
def test_the_features_of_labelled_windows_are_gathered_by_time_and_lane(network):
    batch = batch_of(windows(3), labelled=(1, 4))
    features, _ = run_clip(network, batch, None, channels_last=False)
    gathered = labelled_features(features, batch)
    assert [len(level) for level in gathered] == [2, 2, 2]
    for level, found in enumerate(gathered):
        assert torch.equal(found[0], features[level][0, 1])
        assert torch.equal(found[1], features[level][2, 0])


def test_the_loss_of_the_last_window_reaches_the_first_one_but_not_the_clip_before(network):
    network.train()
    criterion = partial(EVENTS.loss, CONFIG)
    before = TASK.step(network, criterion, batch_of(windows(2), (0, 3)), None, channels_last=False)
    assert not any(tensor.requires_grad for pair in before.memory for tensor in pair)
    frames = windows(3).float().requires_grad_()
    batch = batch_of(frames, (4, 5))
    step = TASK.step(network, criterion, batch, before.memory, channels_last=False)
    assert step.samples == 3 * 2
    assert step.counts == {"boxes": 2}
    step.losses["loss"].backward()
    assert frames.grad.abs().amax(dim=(1, 2, 3, 4)).min() > 0


def test_a_batch_without_labels_changes_nothing(network):
    network.train()
    step = TASK.step(network, partial(EVENTS.loss, CONFIG), batch_of(windows(2)), None, channels_last=False)
    step.losses["loss"].backward()
    assert float(step.losses["loss"]) == 0
    assert all(float(parameter.grad.abs().max()) == 0 for parameter in network.parameters())


class Remembers(nn.Module):
    """Sees a window's brightest pixel, and carries the brightest seen so far."""

    def recur(self, frames, states):
        seen = frames.amax(dim=(1, 2, 3), keepdim=True)
        h = seen if states is None else torch.maximum(seen, states[0][0])
        return (h,), ((h, torch.zeros_like(h)),)

    def recur_clip(self, clip, states):
        features = []
        for frames in clip:
            (h,), states = self.recur(frames, states)
            features.append(h)
        return (torch.stack(features),), states

    def detect(self, features):
        return tuple(features)

    def cells(self, outputs):
        return outputs[0]


BOX = (8.0, 8.0, 16.0, 24.0)  # x, y, w, h
FAMILY = StreamFamily(
    name="remembers",
    task="stream_detection",
    config=None,
    build=None,
    # the box with a score of a tenth of the brightest count
    decode=lambda config, seen: (
        torch.tensor([BOX[0], BOX[1], BOX[0] + BOX[2], BOX[1] + BOX[3]]).expand(len(seen), 1, 4),
        seen.reshape(-1, 1) / 10,
        torch.zeros(len(seen), 1, dtype=torch.int64),
        torch.ones(len(seen), 1),
    ),
    class_names=lambda config: ["pedestrian", "vehicle"],
    input_size=lambda config: (64, 96),
    loss=lambda config, outputs, targets: {"loss": torch.tensor(float(len(targets.objects)))},
    default_thresholds=lambda config: {"score_threshold": 0.5, "iou_threshold": 0.5, "max_detections": 100},
    stream_input=lambda config: StreamInput("stacked_histogram", 1, 50, False),
    load_weights=None,
)


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Bright in the first window only, then dark; a box at rest in all others. One recording is dark."""
    dark, bright = np.zeros((2, 64, 96), np.uint8), np.full((2, 64, 96), 9, np.uint8)
    shown = {window: [(*BOX, 0, 1)] for window in range(1, 16)}
    seen = {0: bright} | dict.fromkeys(range(1, 16), dark)
    drawn = {
        "seen": Drawn(16, shown, seen),
        "unseen": Drawn(13, {5: [(*BOX, 0, 1)]}, dict.fromkeys(range(13), dark)),
    }
    folder = write_set(tmp_path_factory.mktemp("frames") / "set", {"val": drawn})
    return read_frame_set(folder, "val")


@pytest.mark.parametrize("lanes", [1, 2], ids=["one lane", "two lanes"])
@pytest.mark.parametrize(("remember", "found"), [(True, 15 / 16), (False, 0)], ids=["carried", "forgotten"])
def test_what_was_seen_is_found_later_only_with_memory_and_only_in_its_recording(
    frames, stream_run, lanes, remember, found
):
    batches = TASK.evaluation_loader(FAMILY, None, stream_run(f"trainer.batch_size={lanes}"), frames)
    network = Remembers()
    result = evaluate(
        FAMILY,
        None,
        network,
        partial(FAMILY.loss, None),
        batches,
        device=torch.device("cpu"),
        remember=remember,
        examples=3,
    )
    assert network.training, "it is put back into the mode that it was in"
    assert result.curves["truths"] == 16
    assert result.numbers["recall"] == pytest.approx(found)
    # a box that has not moved since window 1 is at rest from window 11 on, half a second later
    assert result.curves["boxes_at_rest"] == 5
    assert result.numbers["recall_at_rest"] == pytest.approx(float(remember))
    assert result.numbers["ap/pedestrian"] == result.per_class["pedestrian"]["ap"] == result.numbers["ap"]
    assert result.numbers["ap/vehicle"] is None
    assert len(result.examples) == 3


def test_every_window_of_a_recording_is_trained_on_in_the_order_of_time(frames, stream_run):
    config = stream_run("data.sampling=stream", "trainer.batch_size=1", "data.clip_length=4")
    loader = TASK.training_loader(
        FAMILY,
        None,
        config,
        frames,
        first_epoch=0,
        rank=0,
        pin_memory=False,
        after_sample=lambda: None,
        log=lambda text: None,
    )
    clips = [batch.clips[0] for batch in loader]
    assert {clip.recording for clip in clips} == {0, 1}
    for earlier, later in pairwise(clips):
        assert later.first or (later.recording, later.start) == (earlier.recording, earlier.start + 4)
