"""Partitions place by place, and attention against torch's own."""

import pytest
import torch
import torch.nn.functional as F

from shared.models.maxvit import (
    PartitionAttention,
    SelfAttention,
    grid_partition,
    grid_reverse,
    window_partition,
    window_reverse,
)

HEIGHT, WIDTH, SIZE = 6, 8, (3, 2)


@pytest.fixture
def numbered():
    """Two maps whose places hold their own number."""
    return torch.arange(2 * HEIGHT * WIDTH, dtype=torch.float32).reshape(2, HEIGHT, WIDTH, 1)


def test_a_window_holds_neighbours(numbered):
    windows = window_partition(numbered, SIZE)[..., 0]
    assert windows.shape == (2 * 2 * 4, 6)
    rows, columns = range(3), range(2)
    assert windows[0].tolist() == [r * WIDTH + c for r in rows for c in columns]
    # The next window is two columns further, and the fifth three rows.
    assert windows[1].tolist() == [r * WIDTH + c + 2 for r in rows for c in columns]
    assert windows[4].tolist() == [(r + 3) * WIDTH + c for r in rows for c in columns]


def test_a_grid_group_holds_places_far_apart(numbered):
    groups = grid_partition(numbered, SIZE)[..., 0]
    assert groups.shape == (2 * 2 * 4, 6)
    # 3 rows, 6/3 apart, by 2 columns, 8/2 apart
    assert groups[0].tolist() == [r * 2 * WIDTH + c * 4 for r in range(3) for c in range(2)]
    assert groups[1].tolist() == [r * 2 * WIDTH + c * 4 + 1 for r in range(3) for c in range(2)]
    assert groups[4].tolist() == [(r * 2 + 1) * WIDTH + c * 4 for r in range(3) for c in range(2)]


@pytest.mark.parametrize(
    ("partition", "reverse"), [(window_partition, window_reverse), (grid_partition, grid_reverse)]
)
def test_partitions_can_be_undone(partition, reverse):
    x = torch.randn(2, HEIGHT, WIDTH, 5)
    torch.testing.assert_close(reverse(partition(x, SIZE), SIZE, HEIGHT, WIDTH), x, rtol=0, atol=0)


def test_attention_takes_q_k_v_head_by_head():
    torch.manual_seed(0)
    attention, x = SelfAttention(12, 4), torch.randn(2, 5, 12)
    per_head = F.linear(x, attention.qkv.weight, attention.qkv.bias).reshape(2, 5, 3, 12)
    heads = []
    for head in range(3):
        q, k, v = per_head[:, :, head].split(4, dim=-1)
        weights = torch.softmax(q @ k.transpose(1, 2) / 4**0.5, dim=-1)
        heads.append(weights @ v)
    expected = F.linear(torch.cat(heads, dim=-1), attention.proj.weight, attention.proj.bias)
    torch.testing.assert_close(attention(x), expected)


def test_a_block_is_two_scaled_residuals():
    torch.manual_seed(0)
    block, x = PartitionAttention(8, 4, SIZE, "grid"), torch.randn(1, HEIGHT, WIDTH, 8)
    torch.testing.assert_close(block.ls1.gamma, torch.full((8,), 1e-5))
    with torch.no_grad():
        block.ls1.gamma.uniform_(0.5, 1)
        block.ls2.gamma.uniform_(0.5, 1)
    tokens = grid_partition(F.layer_norm(x, (8,), block.norm1.weight, block.norm1.bias), SIZE)
    middle = x + block.ls1.gamma * grid_reverse(block.self_attn(tokens), SIZE, HEIGHT, WIDTH)
    (first, _), _, last = block.mlp.net
    normal = F.layer_norm(middle, (8,), block.norm2.weight, block.norm2.bias)
    expected = middle + block.ls2.gamma * last(F.gelu(first(normal)))
    torch.testing.assert_close(block(x), expected)


def test_without_a_norm_there_are_no_parameters_of_it():
    assert not any(
        name.startswith("norm1") for name in PartitionAttention(8, 4, SIZE, "window", norm=False).state_dict()
    )


def test_channels_that_do_not_divide_into_heads_are_refused():
    with pytest.raises(ValueError, match="12 channels do not divide into heads of 5"):
        SelfAttention(12, 5)
