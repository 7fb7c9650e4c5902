"""The LSTM cell against torch's own, place by place."""

import pytest
import torch
from torch import nn

from shared.models.conv_lstm import ConvLSTM1x1


def test_every_place_is_an_lstm_of_torch():
    torch.manual_seed(0)
    cell, reference = ConvLSTM1x1(3), nn.LSTMCell(3, 3)
    forget, enter, leave, candidate = cell.conv1x1.weight.detach()[:, :, 0, 0].chunk(4)
    weight = torch.cat([enter, forget, candidate, leave])  # torch's order of gates
    bias = cell.conv1x1.bias.detach().chunk(4)
    with torch.no_grad():
        reference.weight_ih.copy_(weight[:, :3])
        reference.weight_hh.copy_(weight[:, 3:])
        reference.bias_ih.copy_(torch.cat([bias[1], bias[0], bias[3], bias[2]]))
        reference.bias_hh.zero_()
    x, h, c = (torch.randn(2, 3, 4, 5) for _ in range(3))

    def places(tensor):
        return tensor.permute(0, 2, 3, 1).reshape(-1, 3)

    expected = reference(places(x), (places(h), places(c)))
    for ours, theirs in zip(cell(x, (h, c)), expected, strict=True):
        torch.testing.assert_close(places(ours), theirs)


@pytest.mark.parametrize("kernel", [3, 5])
def test_the_depthwise_convolution_is_on_the_old_h_alone_or_on_both(kernel):
    torch.manual_seed(0)
    x, h, c = (torch.randn(1, 2, 6, 7) for _ in range(3))
    for depthwise, mixed in (("hidden", 2), ("concat", 4)):
        cell = ConvLSTM1x1(2, depthwise, kernel)
        assert cell.conv3x3_dws.weight.shape == (mixed, 1, kernel, kernel)
        plain = ConvLSTM1x1(2)
        plain.load_state_dict({k: v for k, v in cell.state_dict().items() if "dws" not in k})
        moved = cell.conv3x3_dws(h if depthwise == "hidden" else torch.cat([x, h], 1))
        given = (x, (moved, c)) if depthwise == "hidden" else (moved[:, :2], (moved[:, 2:], c))
        for ours, expected in zip(cell(x, (h, c)), plain(*given), strict=True):
            torch.testing.assert_close(ours, expected)


def test_without_it_there_are_no_parameters_of_it():
    assert set(ConvLSTM1x1(2).state_dict()) == {"conv1x1.weight", "conv1x1.bias"}


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="odd side, and was given 4"):
        ConvLSTM1x1(2, "hidden", 4)


def test_chrono_steps_give_half_of_the_channels_memories_of_one_to_so_many_steps():
    torch.manual_seed(0)
    cell = ConvLSTM1x1(400, chrono_steps=60)
    forget, enter, leave, candidate = cell.conv1x1.bias.detach().chunk(4)
    kept = forget[:200]
    torch.testing.assert_close(enter[:200], -kept)
    # After T / (T + 1) of a cell in each step, T steps leave about 1/e of it: T is from 1 to 60, log-uniform.
    steps = torch.sigmoid(kept) / (1 - torch.sigmoid(kept))
    assert 1 <= steps.min() < 1.2
    assert 50 < steps.max() <= 60.01
    assert steps.median().item() == pytest.approx(60**0.5, rel=0.2)
    bound = 1 / 800**0.5  # what torch draws from: 1 / sqrt(fan-in)
    for rest in (forget[200:], enter[200:], leave, candidate):
        assert rest.abs().max() <= bound
    with pytest.raises(ValueError, match="two steps"):
        ConvLSTM1x1(4, chrono_steps=1)
