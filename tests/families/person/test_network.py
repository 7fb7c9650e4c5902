"""The person network against the arithmetic of specs/person.md."""

import pytest
import torch

from shared.families import get_family
from shared.families.person.config import PersonConfig

PERSON = get_family("person")

# The specification's table, (in, out), and what each depth puts after block 8.
TABLE = [(3, 16), (16, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)]
TAILS = {"light": [(256, 256)], "base": [(256, 512)], "deep": [(256, 512), (512, 512), (512, 1024)]}


def parameters_by_formula(depth):
    rows = TABLE + TAILS[depth]
    convolutions = sum(9 * i * o for i, o in rows)
    normalisations = sum(2 * o for _, o in rows)
    head = rows[-1][1] * 5 + 5
    return convolutions, normalisations, head


def parameter_count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def small(**options):
    """The same network for a small picture, so that a test takes milliseconds."""
    return PersonConfig(**{"image_size": 64, "grid_size": 4, "depth": "light", **options})


def test_the_reference_model_has_exactly_the_specified_parameters():
    assert parameters_by_formula("base") == (2_345_904, 2_912, 2_565)
    network = PERSON.build(PERSON.config())
    assert parameter_count(network) == 2_351_381
    shapes = [p.shape for p in network.parameters()]
    assert sum(s.numel() for s in shapes if len(s) == 4 and s[2] == 3) == 2_345_904
    assert sum(s.numel() for s in shapes if len(s) == 1 and s[0] > 5) == 2_912


@pytest.mark.parametrize("depth", ["light", "base", "deep"])
@pytest.mark.parametrize("skips", [False, True])
def test_every_depth_has_the_parameters_of_its_table(depth, skips):
    network = PERSON.build(PersonConfig(depth=depth, skips=skips))
    assert parameter_count(network) == sum(parameters_by_formula(depth))


def test_multi_scale_adds_two_heads_and_one_block():
    one, several = (PERSON.build(PersonConfig(multi_scale=flag)) for flag in (False, True))
    added = (128 * 5 + 5) + (256 * 5 + 5) + (9 * 512 * 256 + 2 * 256)
    assert parameter_count(several) - parameter_count(one) == added


@pytest.mark.parametrize("grid_size", [13, 26, 32, 52])
def test_the_output_is_a_grid_of_the_asked_size_within_zero_and_one(grid_size):
    config = PERSON.config(grid_size=grid_size, depth="light")
    network = PERSON.build(config).eval()
    with torch.no_grad():
        output = network(torch.rand(1, 3, 416, 416))
    assert output.shape == (1, grid_size, grid_size, 5)
    assert ((output > 0) & (output < 1)).all()
    assert parameter_count(network) == sum(parameters_by_formula("light"))


@pytest.mark.parametrize("size", [64, 80, 208, 416])
def test_any_multiple_of_16_works(size):
    network = PERSON.build(small(grid_size=13)).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 3, size, size)).shape == (2, 13, 13, 5)


def test_a_map_of_the_grids_own_size_is_not_resampled():
    network = PERSON.build(small(grid_size=4)).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        features = images
        for block in network.blocks:
            features = block(features)
        expected = torch.sigmoid(network.head(features))
        torch.testing.assert_close(network(images).permute(0, 3, 1, 2), expected)


def test_another_grid_is_the_bilinear_resampling_of_the_sigmoid():
    network = PERSON.build(small(grid_size=8)).eval()
    own = PERSON.build(small(grid_size=4)).eval()
    own.load_state_dict(network.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        grid, fine = own(images)[0, :, :, 4], network(images)[0, :, :, 4]
    # Doubling, half-pixel centres: the fine cell 1 lies a quarter of the way from coarse 0 to coarse 1.
    between = 0.75 * grid[0] + 0.25 * grid[1]  # fine row 1
    assert fine[1, 1].item() == pytest.approx((0.75 * between[0] + 0.25 * between[1]).item(), abs=1e-6)
    assert fine[0, 0].item() == pytest.approx(grid[0, 0].item(), abs=1e-6)


def test_multi_scale_gives_strides_8_16_and_32():
    network = PERSON.build(small(image_size=96, multi_scale=True)).eval()
    with torch.no_grad():
        outputs = network(torch.rand(2, 3, 96, 96))
    assert [tuple(o.shape) for o in outputs] == [(2, 12, 12, 5), (2, 6, 6, 5), (2, 3, 3, 5)]


def test_skips_add_the_input_of_blocks_that_keep_their_shape():
    plain, skipping = PERSON.build(small()).eval(), PERSON.build(small(skips=True)).eval()
    skipping.load_state_dict(plain.state_dict())
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        x = images
        for index, block in enumerate(skipping.blocks, start=1):
            x = (
                block(x) + x if index in (4, 6, 8, 9) else block(x)
            )  # of depth light: equal channels, stride 1
        expected = torch.sigmoid(skipping.head(x)).permute(0, 2, 3, 1)
        torch.testing.assert_close(skipping(images), expected)
        assert not torch.allclose(plain(images), expected)


@pytest.mark.parametrize("multi_scale", [False, True])
def test_an_untrained_network_predicts_about_its_prior(multi_scale):
    torch.manual_seed(0)
    config = small(objectness_prior=0.01, multi_scale=multi_scale)
    with torch.no_grad():
        outputs = PERSON.build(config)(torch.rand(4, 3, 64, 64))
    for grid in outputs if multi_scale else (outputs,):
        assert grid[..., 4].median().item() == pytest.approx(0.01, rel=0.8)


def test_mixed_precision_leaves_the_output_in_float32():
    network = PERSON.build(small())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(torch.rand(1, 3, 64, 64)).dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 100}, "multiple of 16"),
        ({"image_size": 208, "multi_scale": True}, "32 divides, not 208"),
        ({"depth": "huge"}, "light"),
        ({"gridsize": 13}, "gridsize"),
        ({"lambda_coord": -1.0}, "greater than 0"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        PersonConfig(**options)
