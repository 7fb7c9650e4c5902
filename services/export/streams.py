"""A graph run over consecutive windows, its states going in as they came out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.export.graph import CarriedState
from services.export.runners import Outputs, Runner

HISTOGRAMS = "histograms"


class Stream:
    """N streams side by side in one runner, from their beginning: `step` after `step`."""

    def __init__(self, run: Runner, states: Sequence[CarriedState], *, zeros: int | None) -> None:
        """zeros: how many streams begin with zeros; None leaves the first states to the graph."""
        self._run = run
        self._states = states
        self._carried = {} if zeros is None else zero_states(states, zeros)

    def step(self, histograms: NDArray[Any]) -> Outputs:
        """Run one window [N, C, H, W] of each stream; return the graph's outputs, next states among them."""
        outputs = self._run({HISTOGRAMS: histograms, **self._carried})
        self._carried = {state.input: outputs[state.output] for state in self._states}
        return outputs


def zero_states(states: Sequence[CarriedState], batch: int) -> dict[str, NDArray[np.float32]]:
    """Return what `batch` streams begin with, by the name of the input."""
    return {state.input: np.zeros((batch, *state.shape), np.float32) for state in states}
