"""Standard weights from a local file, under torchvision's or timm's names, into a network's trunk.

The names of torchvision are this library's own; timm's are translated. Files are .safetensors, or PyTorch
files, of which the tensors are read: nothing else in them is ever run.
"""

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from shared.models.inert_pickle import read_inert

# Parameters of the head, which belongs to the classes that the file's network told apart.
HEAD = re.compile(r"(classifier\.2|fc)\.(weight|bias)")
# CBAM's parameters, `features.cbam3.…` in a ConvNeXt and `cbam3.…` in a ResNet: no standard file has them.
ATTENTION = re.compile(r"(features\.)?cbam\d\.")
# So much of the trunk must be in the file, and of the file in the trunk; else it is another network's.
ENOUGH = 0.9

_NO_PLACE = "the network has no such part"
_WRAPPERS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "model_ema")
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")

# What torch.load raises for bytes that are no file of its own, by where it stumbles.
_MALFORMED = (AttributeError, EOFError, IndexError, KeyError, RuntimeError, TypeError, ValueError)

# timm: https://github.com/huggingface/pytorch-image-models, timm/models/convnext.py
_TIMM_BLOCK = {
    "conv_dw": "block.0",
    "norm": "block.2",
    "mlp.fc1": "block.3",
    "mlp.fc2": "block.5",
    "gamma": "layer_scale",
}
_TIMM_RULES: tuple[tuple[str, str], ...] = (
    (r"stem\.([01])\.", r"features.0.\1."),
    (r"head\.norm\.", "classifier.0."),
    (r"head\.fc\.", "classifier.2."),
)


class WeightsError(ValueError):
    """The file is no file of weights, or those of another network."""


@dataclass(frozen=True)
class LoadReport:
    """What went where: `loaded` names of the network; the others with the reason.

    missing: of the network, and left as they were. ignored: of the file, and not used.
    """

    source: str
    naming: str
    loaded: tuple[str, ...]
    missing: Mapping[str, str]
    ignored: Mapping[str, str]

    def lines(self) -> list[str]:
        """The report in words, one line for what was loaded and one per reason for what was not."""
        lines = [f"{self.source} ({self.naming} names): {len(self.loaded)} tensors loaded"]
        for title, keys in (("left untrained", self.missing), ("not used", self.ignored)):
            for reason in dict.fromkeys(keys.values()):
                named = [key for key, why in keys.items() if why == reason]
                lines.append(f"{title}, {reason}: {', '.join(named)}")
        return lines


def load_trunk_weights(network: nn.Module, path: str | Path) -> LoadReport:
    """Copy what fits from the file into `network`, all but the head, and say exactly what was done.

    Raises FileNotFoundError, and WeightsError for what is no file of tensors, for a tensor of another shape
    and for a file that holds less than nine tenths of the trunk's tensors; the network is then unchanged.
    """
    path = Path(path)
    tensors = read_tensors(path)
    naming, renamed = _our_names(tensors)
    own = network.state_dict()
    trunk = [name for name in own if not HEAD.fullmatch(name) and not _is_attention(name)]
    trunk = [name for name in trunk if not _is_counter(name)]
    ignored: dict[str, str] = {}
    for name, (key, _) in renamed.items():
        if HEAD.fullmatch(name):
            ignored[key] = "the head is for other classes"
        elif name not in own:
            ignored[key] = _NO_PLACE
    found = {  # in the network's order, so that the first mismatch is the one nearest to the input
        name: _shaped(path, *renamed[name], name, own[name])
        for name in own
        if name in renamed and not HEAD.fullmatch(name)
    }
    absent = [name for name in trunk if name not in found]
    foreign = sorted(key for key, why in ignored.items() if why == _NO_PLACE)
    if len(absent) > (1 - ENOUGH) * len(trunk) or len(foreign) > (1 - ENOUGH) * len(tensors):
        raise WeightsError(
            f"{path} fits another network ({naming} names): {len(trunk) - len(absent)} of the {len(trunk)}"
            f" tensors of this one's trunk are in it{_first(absent, '; the first that is not: ')}"
            f"{_first(foreign, '; the first of the file without a place here: ')}"
        )
    network.load_state_dict(found, strict=False)
    return LoadReport(
        source=str(path),
        naming=naming,
        loaded=tuple(found),
        missing={name: _why_missing(name) for name in own if name not in found},
        ignored=ignored,
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file by its name, on the CPU. Raises FileNotFoundError and WeightsError."""
    if path.suffix not in _SUFFIXES:
        raise WeightsError(f"{path}: weights are read from {', '.join(_SUFFIXES)} files")
    if not path.is_file():
        raise FileNotFoundError(f"no file of weights at {path}")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path} holds {type(content).__name__}, not tensors by name")
    tensors = {
        str(name).removeprefix("module."): value
        for name, value in content.items()
        if isinstance(value, Tensor)
    }
    if not tensors:
        raise WeightsError(f"{path} holds no tensors")
    return tensors


def _read_safetensors(path: Path) -> object:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from error


def _read_torch(path: Path) -> object:
    try:
        return _load(path)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[0]
        raise WeightsError(
            f"{path} is not a plain file of tensors, and nothing else in it is run ({reason});"
            " save the state dict alone, best as .safetensors"
        ) from error
    except _MALFORMED as error:
        raise WeightsError(f"{path} is not a file that PyTorch wrote: {error}") from error


def _load(path: Path) -> object:
    """Read plain tensors, or else those that lie beside other objects, which stay unmade."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        content = read_inert(path)
        if not _holds_tensors(content):
            raise
        return content


def _holds_tensors(content: object) -> bool:
    if isinstance(content, Mapping):
        return any(_holds_tensors(value) for value in content.values())
    return isinstance(content, Tensor)


def _our_names(tensors: Mapping[str, Tensor]) -> tuple[str, dict[str, tuple[str, Tensor]]]:
    """Return whose names the file uses, and by our name its key and tensor."""
    if any(key.startswith("stages.") for key in tensors):
        return "timm", {_from_timm(key): (key, tensor) for key, tensor in tensors.items()}
    return "torchvision", {key: (key, tensor) for key, tensor in tensors.items()}


def _from_timm(key: str) -> str:
    """timm's ConvNeXt name in torchvision's terms; a name that follows no rule is returned as it is."""
    if stage := re.fullmatch(r"stages\.(\d)\.downsample\.([01])\.(weight|bias)", key):
        return f"features.{2 * int(stage[1])}.{stage[2]}.{stage[3]}"
    if block := re.fullmatch(r"stages\.(\d)\.blocks\.(\d+)\.(.+?)(\.weight|\.bias)?", key):
        part = _TIMM_BLOCK.get(block[3])
        return f"features.{2 * int(block[1]) + 1}.{block[2]}.{part}{block[4] or ''}" if part else key
    for pattern, replacement in _TIMM_RULES:
        if re.match(pattern, key):
            return re.sub(pattern, replacement, key, count=1)
    return key


def _shaped(path: Path, key: str, tensor: Tensor, name: str, own: Tensor) -> Tensor:
    """Return the tensor in our shape; timm has flat layer scales, and 1×1 convolutions in small networks."""
    if tensor.shape != own.shape and _squeezed(tensor) == _squeezed(own):
        tensor = tensor.reshape(own.shape)
    if tensor.shape != own.shape:
        raise WeightsError(
            f"{path} fits another network: {key} is {list(tensor.shape)} there, and {name} is"
            f" {list(own.shape)} here"
        )
    return tensor.to(own.dtype)


def _squeezed(tensor: Tensor) -> list[int]:
    return [size for size in tensor.shape if size != 1]


def _is_attention(name: str) -> bool:
    return ATTENTION.match(name) is not None


def _is_counter(name: str) -> bool:
    return name.endswith("num_batches_tracked")  # absent from files older than the counter


def _why_missing(name: str) -> str:
    if HEAD.fullmatch(name):
        return "the head is for other classes"
    return "attention is not in standard weights" if _is_attention(name) else "the file has no such tensor"


def _first(names: list[str], words: str) -> str:
    return f"{words}{names[0]}" if names else ""
