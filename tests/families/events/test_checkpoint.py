"""Checkpoints of the official names: what loads, what is told, and what is refused, nothing changed."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from shared.families.events import load_rvt_checkpoint, load_rvt_state
from shared.models.weights import WeightsError


@pytest.fixture
def published(small_network):
    """A state of another network of the same kind."""
    network = small_network()
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.rand(tensor.shape, generator=generator) if tensor.is_floating_point() else tensor + 7
        for name, tensor in network.state_dict().items()
    }


def same(network, state):
    return all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


def untouched(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("prefix", ["", "mdl."])
def test_names_may_have_the_prefix_or_not(small_network, published, prefix):
    network = small_network()
    report = load_rvt_state(network, {prefix + name: tensor for name, tensor in published.items()})
    assert same(network, published)
    assert len(report.loaded) == 376
    assert not report.missing
    assert not report.ignored


def test_a_lightning_checkpoint_loads_from_its_file(small_network, published, tmp_path):
    path = tmp_path / "rvt-t.ckpt"
    content = {f"mdl.{name}": tensor for name, tensor in published.items()}
    content["metric.total"] = torch.zeros(1)
    torch.save({"epoch": 3, "global_step": 400_000, "state_dict": content, "lr_schedulers": []}, path)
    network = small_network()
    report = load_rvt_checkpoint(network, path)
    assert same(network, published)
    assert report.ignored == {"metric.total": "not of the network"}
    assert str(path) in report.lines()[0]
    network = small_network()
    load_rvt_state(network, torch.load(path, weights_only=True))  # the whole checkpoint does as well
    assert same(network, published)


def test_safetensors_load(small_network, published, tmp_path):
    save_file(published, tmp_path / "rvt-t.safetensors")
    network = small_network()
    load_rvt_checkpoint(network, tmp_path / "rvt-t.safetensors")
    assert same(network, published)


class Payload:
    def __reduce__(self):
        return (open, ("ran", "w"))


def old_schedule(start, end, share):
    """As PyTorch 1 keeps its rule in the state of a one-cycle schedule, which upstream trains with."""


def test_a_whole_checkpoint_loads_beside_objects_that_are_never_made(
    small_network, published, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "rvt-t.ckpt"
    content = {
        "state_dict": {f"mdl.{name}": tensor for name, tensor in published.items()},
        "lr_schedulers": [{"anneal_func": old_schedule, "last_epoch": 400_000}],
        "hyper_parameters": {"full_config": Payload()},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.44)}},
    }
    torch.save(content, path, pickle_module=pickle)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    network = small_network()
    load_rvt_checkpoint(network, path)
    assert same(network, published)
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_not_there_or_no_checkpoint_is_told(small_network, tmp_path):
    with pytest.raises(FileNotFoundError):
        load_rvt_checkpoint(small_network(), tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("nothing of the kind")
    with pytest.raises(WeightsError, match=r"text\.ckpt"):
        load_rvt_checkpoint(small_network(), tmp_path / "text.ckpt")


@pytest.mark.parametrize(
    ("options", "first"),
    [
        (
            {"size": "small"},
            r"first mismatch is backbone\.stages\.0\.downsample_cf2cl\.conv\.weight, \[32, 20, 7, 7\] there",
        ),
        (
            {"num_classes": 3},
            r"yolox_head\.cls_preds\.0\.weight, \[2, 64, 1, 1\] there and \[3, 64, 1, 1\] here",
        ),
        (
            {"representation": "ternary_volume", "bins": 5},
            r"conv\.weight, \[32, 20, 7, 7\] there and \[32, 5, 7, 7\] here",
        ),
    ],
)
def test_a_wrong_size_is_refused_with_the_first_mismatch(small_network, published, options, first):
    network = small_network(**options)
    before = untouched(network)
    with pytest.raises(WeightsError, match=first):
        load_rvt_state(network, published)
    assert same(network, before)


def test_base_weights_do_not_pass_for_a_shallower_network(small_network, published):
    extra = {**published, "fpn.C3_p4.m.1.conv1.conv.weight": torch.zeros(64, 64, 1, 1)}
    with pytest.raises(WeightsError, match=r"no place for fpn\.C3_p4\.m\.1\.conv1\.conv\.weight"):
        load_rvt_state(small_network(), extra)


@pytest.mark.parametrize("gone", ["backbone.stages.2.lstm.conv1x1.bias", "yolox_head.obj_preds.2.bias"])
def test_a_tensor_that_is_missing_is_named(small_network, published, gone):
    del published[gone]
    network = small_network()
    before = untouched(network)
    with pytest.raises(WeightsError, match=f"it has no {gone}"):
        load_rvt_state(network, published)
    assert same(network, before)


def test_numbers_that_are_not_finite_are_refused(small_network, published):
    published["fpn.bu_conv1.bn.bias"][0] = float("nan")
    with pytest.raises(WeightsError, match=r"fpn\.bu_conv1\.bn\.bias holds numbers that are not finite"):
        load_rvt_state(small_network(), published)
    published["fpn.bu_conv1.bn.bias"] = torch.full_like(
        published["fpn.bu_conv1.bn.bias"], 1e300, dtype=torch.float64
    )
    with pytest.raises(WeightsError, match="not finite"):  # in single precision
        load_rvt_state(small_network(), published)


def test_complex_numbers_are_refused_not_halved(small_network, published):
    published["fpn.bu_conv1.bn.bias"] = published["fpn.bu_conv1.bn.bias"].to(torch.complex64)
    with pytest.raises(WeightsError, match="complex"):
        load_rvt_state(small_network(), published)


def test_counters_of_batch_norm_need_not_be_there(small_network, published):
    without = {name: tensor for name, tensor in published.items() if "num_batches" not in name}
    report = load_rvt_state(small_network(), without)
    assert set(report.missing) == published.keys() - without.keys()


@pytest.mark.parametrize(
    ("options", "part", "reason"),
    [
        ({"attention": "cbam"}, "fpn_attention.", "attention on the pyramid"),
        ({"depthwise_lstm": "hidden"}, "conv3x3_dws", "depthwise convolution"),
    ],
)
def test_parts_that_no_published_checkpoint_has_stay_and_are_told(
    small_network, published, options, part, reason
):
    network = small_network(**options)
    before = untouched(network)
    report = load_rvt_state(network, published)
    own = network.state_dict()
    assert report.missing
    assert all(part in name and reason in why for name, why in report.missing.items())
    assert all(torch.equal(own[name], before[name]) for name in report.missing)
    assert all(torch.equal(own[name], tensor) for name, tensor in published.items())


def test_four_levels_take_three_levels_heads_at_their_strides(small_network, published):
    network = small_network(scales=4)
    report = load_rvt_state(network, published)
    own = network.state_dict()
    for level in range(3):
        name = "yolox_head.reg_preds.{}.weight"
        assert torch.equal(own[name.format(level + 1)], published[name.format(level)])
    left = {name.split(".")[1] for name in report.missing if name.startswith("fpn.")}
    assert left == {"reduce_conv2", "C3_p2", "bu_conv3", "C3_n2"}
    assert "yolox_head.stems.0.conv.weight" in report.missing
    again = small_network(scales=4)
    assert not load_rvt_state(again, own).missing  # its own state, all four levels
    assert same(again, own)


def test_another_networks_module_is_refused(published):
    with pytest.raises(TypeError, match="Linear"):
        load_rvt_state(torch.nn.Linear(1, 1), published)


def test_a_mismatch_in_a_head_that_moved_says_where_it_would_go(small_network, published):
    published["yolox_head.stems.1.conv.weight"] = torch.zeros(1)
    with pytest.raises(WeightsError, match=r"stems\.1\.conv.* there and, as yolox_head\.stems\.2\.conv"):
        load_rvt_state(small_network(scales=4), published)


def test_a_network_of_other_classes_takes_all_but_what_scores_them(small_network, published):
    network = small_network(num_classes=5)
    before = untouched(network)
    report = load_rvt_state(network, published, other_classes=True)
    own = network.state_dict()
    scoring = {f"yolox_head.cls_preds.{level}.{kind}" for level in range(3) for kind in ("weight", "bias")}
    assert report.missing == dict.fromkeys(scoring, "it is for other classes")
    assert all(torch.equal(own[name], before[name]) for name in scoring)
    assert all(torch.equal(own[name], tensor) for name, tensor in published.items() if name not in scoring)
    same_number = small_network()
    assert not load_rvt_state(same_number, published, other_classes=True).missing
    assert same(same_number, published)
    with pytest.raises(WeightsError, match="first mismatch is backbone"):
        load_rvt_state(small_network(size="small", num_classes=5), published, other_classes=True)
