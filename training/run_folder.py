"""Names of what lies in a run folder."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """A run's folder; its name is the run's id. docs/training.md describes every file."""

    path: Path

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def labels(self) -> Path:
        """Class names by label, a JSON list."""
        return self.path / "labels.json"

    @property
    def results(self) -> Path:
        """One row per epoch."""
        return self.path / "results.csv"

    @property
    def weights(self) -> Path:
        """Weights of the best epoch (the average's, where there is one)."""
        return self.path / "weights.safetensors"

    @property
    def last_weights(self) -> Path:
        """Weights of the last epoch."""
        return self.path / "last.safetensors"

    @property
    def metrics(self) -> Path:
        """Final numbers of the best weights; written last, so it says that the run is complete."""
        return self.path / "metrics.json"

    @property
    def splits(self) -> Path:
        """Classification: which image belongs to which split, with the data's hash."""
        return self.path / "splits.json"

    @property
    def thresholds(self) -> Path:
        """Classification: each class's threshold, chosen on the validation split."""
        return self.path / "thresholds.json"

    @property
    def imported(self) -> Path:
        """Of weights that were not trained here: what they are. Such a run has no epochs."""
        return self.path / "import.json"

    @property
    def checkpoint(self) -> Path:
        """The state after the last epoch, to go on from."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def plots(self) -> Path:
        return self.path / "plots"
