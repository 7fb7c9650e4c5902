"""What every exported graph has in common, whatever its task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from shared.repository.manifest import EventPreprocessing, Preprocessing

RAW_PREFIX = "raw_"


@dataclass(frozen=True, slots=True)
class CarriedState:
    """A tensor that goes in as it came out of the last window, float32 [N, *shape]; zeros at first."""

    input: str
    output: str
    shape: tuple[int, ...]


class ExportedGraph(nn.Module):
    """One tensor for each name in `inputs` -> one for each name in `outputs`, then the raw ones.

    The first dimension of all is the batch. Raw outputs are the network's own as float32, called RAW_PREFIX
    and a number; they are for the gate, and hidden in the file that is shipped. preprocessing: what the
    manifest says of the way to the inputs. states: what a stream carries along.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    preprocessing: Preprocessing | EventPreprocessing
    states: Sequence[CarriedState] = ()

    def examples(self, batch: int) -> tuple[Tensor, ...]:
        """Return tensors of zeros to trace with, one for each of `inputs`."""
        raise NotImplementedError

    def dynamic_shapes(self, batch: Any) -> tuple[Any, ...]:
        """Return `batch`, a torch.export.Dim, as the first dimension of every parameter of `forward`."""
        return tuple({0: batch} for _ in self.inputs)
