"""The network's steps: state, padding, resolutions, and the parts that can be switched on."""

import pytest
import torch

from shared.families.events.config import EventsConfig
from shared.families.events.decode import decode_cells
from shared.families.events.family import EVENTS


def histograms(windows=2, height=60, width=90, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.poisson(torch.full((windows, 20, height, width), 0.3), generator=generator)


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_a_step_answers_every_cell_and_one_state_per_stage(small_network, small_config):
    decoded, states = small_network().step(histograms())
    # 64 × 96 at strides 8, 16, 32
    assert decoded.shape == (2, 8 * 12 + 4 * 6 + 2 * 3, 7)
    assert small_config().cell_count == 126
    assert [tuple(h.shape) for h, _ in states] == [
        (2, 32, 16, 24),
        (2, 64, 8, 12),
        (2, 128, 4, 6),
        (2, 256, 2, 3),
    ]
    assert all(h.shape == c.shape for h, c in states)


@torch.inference_mode()
def test_no_state_is_a_state_of_zeros(small_network):
    network = small_network()
    expected, _ = network.step(histograms(), network.zero_states(2))
    torch.testing.assert_close(network.step(histograms())[0], expected, rtol=0, atol=0)


@torch.inference_mode()
def test_state_is_carried_and_streams_of_a_batch_do_not_touch(small_network):
    network = small_network()
    first, second = histograms(seed=1), histograms(seed=2)
    _, states = network.step(first)
    together, _ = network.step(second, states)
    fresh, _ = network.step(second)
    assert not torch.allclose(together, fresh)
    for n in range(2):
        _, alone = network.step(first[n : n + 1])
        torch.testing.assert_close(
            network.step(second[n : n + 1], alone)[0], together[n : n + 1], rtol=1e-5, atol=1e-4
        )


@torch.inference_mode()
def test_zeros_below_and_to_the_right_are_what_padding_adds(small_network):
    network = small_network()
    whole = torch.zeros(2, 20, 64, 96)
    whole[:, :, :60, :90] = histograms()
    for ours, theirs in zip(network.recur(histograms())[1], network.recur(whole)[1], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@torch.inference_mode()
def test_counts_may_come_as_integers(small_network):
    network = small_network()
    torch.testing.assert_close(
        network.step(histograms().to(torch.uint8))[0], network.step(histograms())[0], rtol=0, atol=0
    )


@pytest.mark.parametrize("shape", [(2, 20, 64, 90), (2, 10, 60, 90), (20, 60, 90), (2, 20, 90, 60)])
def test_histograms_of_another_shape_are_refused(small_network, shape):
    with pytest.raises(ValueError, match=r"\[N, 20, 60, 90\], or padded to 64 × 96"):
        small_network().step(torch.zeros(shape))


def test_a_state_of_another_number_of_stages_is_refused(small_network):
    network = small_network()
    with pytest.raises(ValueError, match="4 pairs"):
        network.step(histograms(), network.zero_states(2)[:3])


@pytest.mark.parametrize(("windows", "size"), [(1, (60, 90)), (2, (124, 90))])
def test_a_state_of_another_batch_or_sensor_is_refused(small_network, windows, size):
    other = small_network(height=size[0], width=size[1])
    with pytest.raises(ValueError, match=r"state of stage 0 is .* but \[2, 32, 16, 24\]"):
        small_network().step(histograms(), other.zero_states(windows))


def test_states_and_boxes_stay_in_single_precision_under_autocast(small_network):
    network, states = small_network(), None
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        for number in range(2):
            decoded, states = network.step(histograms(seed=number), states)
    assert decoded.dtype == torch.float32
    assert all(tensor.dtype == torch.float32 for pair in states for tensor in pair)


def test_gradients_reach_back_through_carried_states_until_they_are_detached(small_network):
    network = small_network()
    first = histograms(seed=1).requires_grad_()
    _, states = network.recur(first)
    network.step(histograms(seed=2), states)[0].sum().backward()
    assert first.grad.abs().sum() > 0
    first.grad = None
    _, states = network.recur(first)
    network.step(histograms(seed=2), [(h.detach(), c.detach()) for h, c in states])[0].sum().backward()
    assert first.grad is None


@torch.inference_mode()
def test_detecting_in_gathered_features_is_a_step(small_network):
    network = small_network()
    states, features, steps = None, [], []
    for number in range(3):
        decoded, _ = network.step(histograms(seed=number), states)
        levels, states = network.recur(histograms(seed=number), states)
        features.append(levels)
        steps.append(decoded)
    gathered = [torch.cat(levels) for levels in zip(*features, strict=True)]
    decoded = decode_cells(network.detect(gathered), network.level_strides)
    torch.testing.assert_close(decoded, torch.cat(steps), rtol=1e-5, atol=1e-4)


def test_the_untrained_head_expects_next_to_nothing(small_network):
    head = small_network().yolox_head
    for layer in (*head.obj_preds, *head.cls_preds):
        torch.testing.assert_close(layer.bias, torch.full_like(layer.bias, -4.59512))


@pytest.mark.parametrize(
    ("options", "added"),
    [
        # SE(C): 2·C·(C/16) + C/16 + C on 64, 128 and 256 channels
        ({"attention": "se"}, (512 + 4 + 64) + (2048 + 8 + 128) + (8192 + 16 + 256)),
        # CBAM(C) is SE(C) + 98 + 2
        ({"attention": "cbam"}, (512 + 4 + 64) + (2048 + 8 + 128) + (8192 + 16 + 256) + 300),
        # 9 weights and a bias for each channel of h, or of x and h
        ({"depthwise_lstm": "hidden"}, 10 * (32 + 64 + 128 + 256)),
        ({"depthwise_lstm": "concat"}, 20 * (32 + 64 + 128 + 256)),
        ({"depthwise_lstm": "hidden", "depthwise_kernel": 5}, 26 * (32 + 64 + 128 + 256)),
    ],
)
def test_what_is_switched_on_is_there_and_takes_part(small_network, options, added):
    plain, network = small_network(), small_network(**options)
    assert parameters(network) == parameters(plain) + added
    names = dict(network.named_parameters()).keys() - dict(plain.named_parameters()).keys()
    _, states = network.recur(histograms(seed=1))
    network.step(histograms(seed=2), states)[0].sum().backward()
    own = dict(network.named_parameters())
    assert names
    assert all(own[name].grad.abs().sum() > 0 for name in names)


def test_the_reference_has_only_official_names(small_network):
    parts = {name.split(".")[0] for name in small_network().state_dict()}
    assert parts == {"backbone", "fpn", "yolox_head"}
    assert not any("dws" in name for name in small_network().state_dict())


@torch.inference_mode()
def test_attention_gates_every_level_of_the_pyramid(small_network):
    network = small_network(attention="se")
    features, _ = network.recur(histograms())
    seen = []
    network.yolox_head.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0]))
    network.detect(features)
    levels = network.fpn(features)
    for gate, level, given in zip(network.fpn_attention, levels, seen, strict=True):
        torch.testing.assert_close(given, gate(level))
        assert not torch.allclose(given, level)


def test_four_levels_begin_at_stride_4(small_network, small_config):
    network = small_network(scales=4)
    decoded, _ = network.step(histograms())
    assert small_config(scales=4).level_sizes == ((16, 24), (8, 12), (4, 6), (2, 3))
    assert decoded.shape == (2, 384 + 126, 7)
    decoded.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_four_levels_at_the_specifications_resolution():
    config = EventsConfig(sensor="gen4", scales=4)
    assert config.level_sizes == ((96, 160), (48, 80), (24, 40), (12, 20))
    assert config.cell_count == 96 * 160 + 5040


def test_four_levels_cost_what_the_same_blocks_cost(small_network):
    def block(inward, outward, kernel):
        return inward * outward * kernel**2 + 2 * outward

    def csp(inward, outward):
        half = outward // 2
        return (
            2 * block(inward, half, 1)
            + block(half, half, 1)
            + block(half, half, 3)
            + block(outward, outward, 1)
        )

    # Level 1 with 32 channels: t2 and its CSP, the way back up; and a head of 64 hidden channels.
    pyramid = block(64, 32, 1) + csp(64, 32) + block(32, 32, 3) + csp(64, 64)
    head = block(32, 64, 1) + 4 * block(64, 64, 3) + 65 * 7
    assert parameters(small_network(scales=4)) - parameters(small_network()) == pyramid + head


@torch.inference_mode()
def test_the_pyramid_joins_the_new_path_first(small_network):
    """Section 4 of the events spec, written out for three levels."""
    network = small_network()
    features, _ = network.recur(histograms())
    x2, x3, x4 = features
    fpn = network.fpn

    def up(x):
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    t4 = fpn.lateral_conv0(x4)
    f3 = fpn.C3_p4(torch.cat([up(t4), x3], 1))
    t3 = fpn.reduce_conv1(f3)
    out2 = fpn.C3_p3(torch.cat([up(t3), x2], 1))
    out3 = fpn.C3_n3(torch.cat([fpn.bu_conv2(out2), t3], 1))
    out4 = fpn.C3_n4(torch.cat([fpn.bu_conv1(out3), t4], 1))
    for ours, expected in zip(fpn(features), (out2, out3, out4), strict=True):
        torch.testing.assert_close(ours, expected)


@torch.inference_mode()
def test_the_fourth_level_continues_the_pyramid(small_network):
    network = small_network(scales=4)
    features, _ = network.recur(histograms())
    x1, x2, x3, x4 = features
    fpn = network.fpn

    def up(x):
        return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    t4 = fpn.lateral_conv0(x4)
    t3 = fpn.reduce_conv1(fpn.C3_p4(torch.cat([up(t4), x3], 1)))
    t2 = fpn.reduce_conv2(fpn.C3_p3(torch.cat([up(t3), x2], 1)))
    out1 = fpn.C3_p2(torch.cat([up(t2), x1], 1))
    out2 = fpn.C3_n2(torch.cat([fpn.bu_conv3(out1), t2], 1))
    out3 = fpn.C3_n3(torch.cat([fpn.bu_conv2(out2), t3], 1))
    out4 = fpn.C3_n4(torch.cat([fpn.bu_conv1(out3), t4], 1))
    for ours, expected in zip(fpn(features), (out1, out2, out3, out4), strict=True):
        torch.testing.assert_close(ours, expected)


def test_the_family_is_complete(small_config):
    config = small_config(class_names=["bus", "tram"])
    assert EVENTS.class_names(config) == ["bus", "tram"]
    assert EVENTS.input_size(config) == (60, 90)
    assert EVENTS.default_thresholds(config) == {
        "score_threshold": 0.1,
        "iou_threshold": 0.45,
        "max_detections": 100,
    }
    decoded, _ = EVENTS.build(config).eval().step(histograms())
    boxes, scores, labels, probabilities = EVENTS.decode(config, decoded)
    assert (boxes.shape, scores.shape, labels.shape) == ((2, 126, 4), (2, 126), (2, 126))
    assert (probabilities >= scores).all()


def test_a_clip_is_its_windows_one_after_the_other(small_network):
    network = small_network()
    height, width = network.sensor_size
    torch.manual_seed(0)
    clip = torch.randint(0, 5, (4, 2, network.channels, height, width)).float()
    begun = [tuple(torch.randn(2, *shape) for _ in "hc") for shape in network.state_shapes()]
    for states in (None, begun):
        features, last = network.recur_clip(clip, states)
        for number, histograms in enumerate(clip):
            expected, states = network.recur(histograms, states)
            for level, window in zip(features, expected, strict=True):
                torch.testing.assert_close(level[number], window)
        for ours, theirs in zip(last, states, strict=True):
            torch.testing.assert_close(ours, theirs)
    with pytest.raises(ValueError, match="follows from a batch of 2"):
        network.recur_clip(clip, network.zero_states(3))
