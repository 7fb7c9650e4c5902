"""Work of clients that bring the graph's own inputs and take its outputs as they are."""

from collections.abc import Sequence

from services.detector.dataplane.session import Tensors


class TensorWork:
    """Tensors on their way through a batch.

    inputs: every input of the graph by name, [rows, …] as its manifest states it. outputs: the names wanted,
    in their order; None for all.
    """

    def __init__(self, inputs: Tensors, outputs: Sequence[str] | None = None) -> None:
        self._inputs = inputs
        self._outputs = outputs

    @property
    def rows(self) -> int:
        """The batch size."""
        return len(next(iter(self._inputs.values())))

    def prepare(self) -> Tensors:
        """Return the graph's inputs."""
        return self._inputs

    def finish(self, outputs: Tensors) -> Tensors:
        """Return the outputs that were asked for, of this work's rows."""
        if self._outputs is None:
            return outputs
        return {name: outputs[name] for name in self._outputs}
