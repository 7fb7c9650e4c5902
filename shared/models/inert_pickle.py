"""PyTorch's files whose tensors lie beside objects of other code, such as Lightning's checkpoints.

`torch.load(weights_only=True)` refuses such a file as a whole: a one-cycle schedule of PyTorch 1 holds a
function, a configuration its own classes. Here everything but tensors and plain values is read as an empty
placeholder, so that nothing the file names is ever imported or called.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

_ZIP = b"PK\x03\x04"  # what PyTorch looks for too; otherwise it reads older formats, tar archives among them
_PROGRAM = "constants.pkl"  # in a TorchScript archive, which `torch.load` hands on to be loaded as code


class _Call:
    """A function to call and nothing more: a pickle can set the attributes of a bare one, defaults too."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, _: object) -> None:
        raise pickle.UnpicklingError("it changes what makes its tensors")


# All that a file may name; the first two make tensors of storages, which PyTorch itself reads.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): _Call(torch._utils._rebuild_tensor_v2),
    ("torch._utils", "_rebuild_parameter"): _Call(torch._utils._rebuild_parameter),
    ("torch", "Size"): torch.Size,
    ("collections", "OrderedDict"): OrderedDict,
}


class Placeholder:
    """Stands for an object that was not made; takes whatever a pickle does to it, and keeps nothing."""

    def __new__(cls, *_: object, **__: object) -> "Placeholder":
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __call__(self, *_: object, **__: object) -> "Placeholder":
        return self

    def __setstate__(self, _: object) -> None:
        pass

    def __setitem__(self, _: object, __: object) -> None:
        pass

    def add(self, _: object) -> None:
        """Take an element of a set."""

    def append(self, _: object) -> None:
        """Take an element of a list."""

    def extend(self, _: object) -> None:
        """Take elements of a list."""


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _ALLOWED.get((module, name), Placeholder)


def read_inert(path: Path) -> Any:
    """Return what the file holds, on the CPU, with a Placeholder for every object of other code.

    Raises pickle.UnpicklingError for a file of PyTorch before 1.6, whose format names more than tensors, and
    for a TorchScript archive, which is a program; what `torch.load` raises for a damaged one.
    """
    with path.open("rb") as file:
        if file.read(len(_ZIP)) != _ZIP:
            raise pickle.UnpicklingError("it is no zip archive, as PyTorch writes since 1.6")
    if _PROGRAM in torch._C.PyTorchFileReader(str(path)).get_all_records():
        raise pickle.UnpicklingError("it is a TorchScript archive, a program")
    module = SimpleNamespace(__name__=__name__, Unpickler=_InertUnpickler)
    return torch.load(path, map_location="cpu", weights_only=False, pickle_module=module)
