"""Published RVT checkpoints, or others of the same names, into a network (specs/events.md section 11)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shared.families.events.network import RVT
from shared.families.events.pyramid import FOURTH_LEVEL
from shared.models.weights import LoadReport, WeightsError, read_tensors

PREFIX = "mdl."
_COUNTER = "num_batches_tracked"
_HEAD = "yolox_head."
_CLASSES = f"{_HEAD}cls_preds."
_EXTRAS = {
    "fpn_attention.": "attention on the pyramid is not in the file",
    "conv3x3_dws": "the depthwise convolution of the LSTM is not in the file",
} | {f"fpn.{name}.": "the file's pyramid has three levels" for name in FOURTH_LEVEL}


def load_rvt_checkpoint(network: nn.Module, path: str | Path, *, other_classes: bool = False) -> LoadReport:
    """Read a Lightning checkpoint (.ckpt), a .pth or a .safetensors file and load it; see load_rvt_state.

    Nothing in the file is run, only its tensors are read. Raises FileNotFoundError, WeightsError.
    """
    path = Path(path)
    return load_rvt_state(network, read_tensors(path), source=str(path), other_classes=other_classes)


def load_rvt_state(
    network: nn.Module,
    state_dict: Mapping[str, Any],
    *,
    source: str = "state dict",
    other_classes: bool = False,
) -> LoadReport:
    """Copy a state dict of the official names, all with the prefix `mdl.` or without, into `network`.

    Switchable parts that no published checkpoint has stay as they were, and the report says so: attention on
    the pyramid, the LSTM's depthwise convolution, the fourth level and its head; the heads of the other
    levels go to their strides. Everything else must be there, in the network's shapes. With `other_classes`
    the file may tell more or fewer classes apart, and what scores them stays as it was too.

    Raises WeightsError, naming the first tensor that does not fit; the network is then unchanged. TypeError
    for a network of another family.
    """
    if not isinstance(network, RVT):
        raise TypeError(
            f"RVT weights go into a network of the events family, not into {type(network).__name__}"
        )
    given, ignored = official_tensors(state_dict)
    own = network.state_dict()
    four_levels = len(network.level_strides) == 4 and not _has_four_levels(given)
    found: dict[str, Tensor] = {}
    missing: dict[str, str] = {}
    for name, tensor in own.items():
        key = _three_level_name(name) if four_levels else name
        if other_classes and key in given and _scores_others(key, given[key], tensor):
            missing[name] = "it is for other classes"
        elif key in given:
            found[name] = _fitting(source, key, given[key], name, tensor)
        elif key is None or ((reason := _why_absent(name)) is None and name.endswith(_COUNTER)):
            missing[name] = (
                "the file's pyramid has three levels" if key is None else "counters are not needed"
            )
        elif reason is None:
            raise WeightsError(f"{source} fits another network: it has no {key}, the first that is missing")
        else:
            missing[name] = reason
    used = {_three_level_name(name) if four_levels else name for name in (*found, *missing)}
    foreign = [key for key in given if key not in used]
    if foreign:
        raise WeightsError(
            f"{source} fits another network: this one has no place for {foreign[0]}"
            + (f" and {len(foreign) - 1} more" if len(foreign) > 1 else "")
        )
    network.load_state_dict(found, strict=False)
    return LoadReport(source, "RVT", tuple(found), missing, ignored)


def official_tensors(state_dict: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors by official name, `mdl.` taken off, and what else there was, with the reason why not."""
    inner = state_dict.get("state_dict")
    content: Mapping[str, Any] = inner if isinstance(inner, Mapping) else state_dict
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if not any(key.startswith(PREFIX) for key in tensors):
        return tensors, {}
    ignored = {key: "not of the network" for key in tensors if not key.startswith(PREFIX)}
    return {key.removeprefix(PREFIX): value for key, value in tensors.items() if key not in ignored}, ignored


def _has_four_levels(given: Mapping[str, Tensor]) -> bool:
    return any(key.startswith(f"fpn.{FOURTH_LEVEL[0]}.") for key in given)


def _three_level_name(name: str) -> str | None:
    """The name that a part of a four-level network has in one of three; None for the finest level's head."""
    if not name.startswith(_HEAD):
        return name
    _, part, level, rest = name.split(".", 3)
    return None if level == "0" else f"{_HEAD}{part}.{int(level) - 1}.{rest}"


def _why_absent(name: str) -> str | None:
    return next((reason for part, reason in _EXTRAS.items() if part in name), None)


def _scores_others(key: str, tensor: Tensor, own: Tensor) -> bool:
    """Whether a tensor has a row for each class, and only the number of classes differs."""
    same_but_rows = tensor.ndim == own.ndim and tensor.shape[1:] == own.shape[1:]
    return key.startswith(_CLASSES) and same_but_rows and tensor.shape != own.shape


def _fitting(source: str, key: str, tensor: Tensor, name: str, own: Tensor) -> Tensor:
    if tensor.shape != own.shape:
        here = "" if key == name else f", as {name},"
        raise WeightsError(
            f"{source} fits another network: the first mismatch is {key}, {list(tensor.shape)} there and"
            f"{here} {list(own.shape)} here"
        )
    if tensor.is_complex():
        raise WeightsError(f"{source} fits another network: {key} holds complex numbers")
    converted = tensor.to(own.dtype)
    if converted.is_floating_point() and not bool(torch.isfinite(converted).all()):
        raise WeightsError(f"{source} is damaged: {key} holds numbers that are not finite")
    return converted
