"""Standard weights under two naming schemes, what is left, and files that must not be taken."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from shared.models.classifier import ClassifierSpec
from shared.models.convnext import convnext_tiny, convnext_zepto, convnext_zepto_cbam
from shared.models.resnet import Bottleneck, ResNet, resnet18_slim, resnet18_slim_cbam, resnet50
from shared.models.weights import WeightsError, load_trunk_weights

HEAD = ("classifier.2.weight", "classifier.2.bias")


def zepto(builder=convnext_zepto_cbam, classes=4, seed=0):
    torch.manual_seed(seed)
    return builder(ClassifierSpec(classes=classes))


def standard(seed=9):
    """A file's content under torchvision's names, with a thousand classes."""
    return zepto(convnext_zepto, classes=1000, seed=seed).state_dict()


def in_timm_names(depths=(2, 2, 4, 2), widths=(32, 64, 128, 256), classes=1000, conv_mlp=False):
    """The published layout of timm's ConvNeXt (timm/models/convnext.py), written out by hand."""
    torch.manual_seed(5)
    shapes = {"stem.0.weight": (widths[0], 3, 4, 4), "stem.0.bias": (widths[0],)}
    shapes |= {"stem.1.weight": (widths[0],), "stem.1.bias": (widths[0],)}
    dense = (1, 1) if conv_mlp else ()
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        if stage:
            before = widths[stage - 1]
            shapes |= {f"stages.{stage}.downsample.0.{part}": (before,) for part in ("weight", "bias")}
            shapes[f"stages.{stage}.downsample.1.weight"] = (width, before, 2, 2)
            shapes[f"stages.{stage}.downsample.1.bias"] = (width,)
        for block in range(depth):
            name = f"stages.{stage}.blocks.{block}"
            shapes[f"{name}.gamma"] = (width,)
            shapes[f"{name}.conv_dw.weight"] = (width, 1, 7, 7)
            shapes[f"{name}.conv_dw.bias"] = (width,)
            shapes |= {f"{name}.norm.{part}": (width,) for part in ("weight", "bias")}
            shapes[f"{name}.mlp.fc1.weight"] = (4 * width, width, *dense)
            shapes[f"{name}.mlp.fc1.bias"] = (4 * width,)
            shapes[f"{name}.mlp.fc2.weight"] = (width, 4 * width, *dense)
            shapes[f"{name}.mlp.fc2.bias"] = (width,)
    shapes |= {f"head.norm.{part}": (widths[-1],) for part in ("weight", "bias")}
    shapes |= {"head.fc.weight": (classes, widths[-1]), "head.fc.bias": (classes,)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def test_attention_of_a_resnet_is_no_part_of_the_trunk_either(tmp_path):
    content, network = zepto(resnet18_slim, seed=9).state_dict(), zepto(resnet18_slim_cbam)
    save_file(content, tmp_path / "plain.safetensors")
    report = load_trunk_weights(network, tmp_path / "plain.safetensors")
    loaded = network.state_dict()
    assert all(torch.equal(loaded[name], content[name]) for name in content if not name.startswith("fc."))
    attention = {name for name in loaded if "cbam" in name}
    assert attention
    assert {report.missing[name] for name in attention} == {"attention is not in standard weights"}


def test_torchvisions_names_load_into_the_trunk_and_the_rest_is_named(tmp_path):
    content, network = standard(), zepto()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    save_file(content, tmp_path / "convnext.safetensors")
    report = load_trunk_weights(network, tmp_path / "convnext.safetensors")

    after = network.state_dict()
    trunk = set(content) - set(HEAD)
    assert set(report.loaded) == trunk
    assert all(torch.equal(after[name], content[name]) for name in trunk)
    attention = {name for name in after if "cbam" in name}
    assert attention
    assert set(report.missing) == attention | set(HEAD)
    assert all(torch.equal(after[name], before[name]) for name in report.missing)
    assert dict(report.ignored) == dict.fromkeys(HEAD, "the head is for other classes")
    told = "\n".join(report.lines())
    assert f"torchvision names): {len(trunk)} tensors loaded" in told
    assert all(name in told for name in report.missing)
    assert "attention is not in standard weights: features.cbam3" in told


@pytest.mark.parametrize("conv_mlp", [False, True])
def test_timms_names_load_every_tensor_to_its_place(tmp_path, conv_mlp):
    content, network = in_timm_names(conv_mlp=conv_mlp), zepto(convnext_zepto)
    torch.save(content, tmp_path / "timm.pth")
    report = load_trunk_weights(network, tmp_path / "timm.pth")
    assert report.naming == "timm"
    assert set(report.missing) == set(HEAD)
    assert set(report.ignored) == {"head.fc.weight", "head.fc.bias"}
    state = network.state_dict()
    for ours, theirs in {
        "features.0.0.weight": "stem.0.weight",
        "features.0.1.bias": "stem.1.bias",
        "features.1.1.layer_scale": "stages.0.blocks.1.gamma",
        "features.2.0.weight": "stages.1.downsample.0.weight",
        "features.6.1.bias": "stages.3.downsample.1.bias",
        "features.5.3.block.0.weight": "stages.2.blocks.3.conv_dw.weight",
        "features.5.3.block.2.bias": "stages.2.blocks.3.norm.bias",
        "features.3.0.block.3.weight": "stages.1.blocks.0.mlp.fc1.weight",
        "features.7.1.block.5.bias": "stages.3.blocks.1.mlp.fc2.bias",
        "classifier.0.weight": "head.norm.weight",
    }.items():
        assert torch.equal(state[ours].flatten(), content[theirs].flatten()), ours


def test_timms_convnext_tiny_fits(tmp_path):
    save_file(in_timm_names((3, 3, 9, 3), (96, 192, 384, 768)), tmp_path / "tiny.safetensors")
    network = convnext_tiny(ClassifierSpec(classes=4))
    assert set(load_trunk_weights(network, tmp_path / "tiny.safetensors").missing) == set(HEAD)


def test_resnet_has_the_same_names_in_both_and_may_lack_its_counters(tmp_path):
    content = {
        name: torch.randn_like(tensor)
        for name, tensor in resnet50(ClassifierSpec(classes=1000)).state_dict().items()
        if not name.endswith("num_batches_tracked")  # torchvision's own older files
    }
    torch.save(content, tmp_path / "resnet50.pth")
    network = resnet50(ClassifierSpec(classes=4))
    report = load_trunk_weights(network, tmp_path / "resnet50.pth")
    assert len(report.loaded) == 318 - 53
    assert torch.equal(network.layer4[2].bn3.running_var, content["layer4.2.bn3.running_var"])
    assert set(report.ignored) == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_a_wrapped_state_dict_is_found(tmp_path, wrapper):
    torch.save({wrapper: standard(), "epoch": 3}, tmp_path / "checkpoint.pth")
    assert load_trunk_weights(zepto(), tmp_path / "checkpoint.pth").loaded


def test_a_partial_file_loads_and_says_exactly_what_it_lacked(tmp_path):
    content = standard()
    gone = ["features.1.0.block.3.weight", "features.7.1.layer_scale"]
    for name in gone:
        del content[name]
    content["extra.weight"] = torch.zeros(2)
    save_file(content, tmp_path / "partial.safetensors")
    report = load_trunk_weights(zepto(convnext_zepto), tmp_path / "partial.safetensors")
    assert [name for name, why in report.missing.items() if why == "the file has no such tensor"] == gone
    assert report.ignored["extra.weight"] == "the network has no such part"


def refused(tmp_path, content, network):
    save_file(content, tmp_path / "wrong.safetensors")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_trunk_weights(network, tmp_path / "wrong.safetensors")
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    return str(caught.value)


def test_another_kind_of_network_is_refused_with_the_first_mismatch(tmp_path):
    content = ResNet(Bottleneck, (1, 1, 1, 1), ClassifierSpec(classes=10)).state_dict()
    message = refused(tmp_path, content, zepto())
    assert "fits another network (torchvision names): 0 of the 108 tensors" in message
    assert "the first that is not: features.0.0.weight" in message
    assert "without a place here: bn1.bias" in message


def test_another_width_is_refused_with_both_shapes(tmp_path):
    message = refused(tmp_path, in_timm_names(widths=(40, 80, 160, 320)), zepto())
    assert "stem.0.weight is [40, 3, 4, 4] there, and features.0.0.weight is [32, 3, 4, 4] here" in message


def test_a_deeper_network_of_the_same_width_is_refused(tmp_path):
    message = refused(tmp_path, in_timm_names(depths=(2, 2, 9, 2)), zepto())
    assert "108 of the 108 tensors" in message
    assert "without a place here: stages.2.blocks.4.conv_dw.bias" in message


def test_metas_own_names_are_refused_by_name(tmp_path):
    content = {"downsample_layers.0.0.weight": torch.zeros(32, 3, 4, 4), "head.weight": torch.zeros(9, 256)}
    assert "without a place here: downsample_layers.0.0.weight" in refused(tmp_path, content, zepto())


class Trap:
    """Unpickling it creates a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (open, (self.path, "w"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_code_in_a_file_is_not_run(tmp_path, write):
    write({"state_dict": Trap(tmp_path / "ran")}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="nothing else in it is run"):
        load_trunk_weights(zepto(), tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_tensors_beside_code_are_read_and_the_code_is_not_run(tmp_path):
    state = zepto().state_dict()
    content = {"state_dict": state, "hyper_parameters": [Trap(tmp_path / "ran")], "rule": Trap.__init__}
    torch.save(content, tmp_path / "checkpoint.ckpt")
    report = load_trunk_weights(zepto(), tmp_path / "checkpoint.ckpt")
    assert report.loaded
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.safetensors", b"", "is not a safetensors file"),
        ("a.safetensors", b"\xff" * 64, "is not a safetensors file"),
        ("a.pth", b"", "is not a file that PyTorch wrote"),
        ("a.pth", b"<html>404</html>", "is not a plain file of tensors"),
        ("a.pth", b"PK\x03\x04 cut off", "is not a file that PyTorch wrote"),
        ("a.h5", b"\x89HDF", r"are read from \.safetensors, \.pth"),
    ],
)
def test_other_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        load_trunk_weights(zepto(), tmp_path / name)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(2)])
def test_a_file_without_named_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"holds (no tensors|list|Tensor)"):
        load_trunk_weights(zepto(), tmp_path / "a.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        load_trunk_weights(zepto(), tmp_path / "nowhere.pth")
