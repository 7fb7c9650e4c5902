"""What happened epoch by epoch: rows of results.csv, the best epoch, and when to stop early."""

import csv
import io
from pathlib import Path
from typing import Any

from shared.core.files import write_atomic


class History:
    """Rows of results.csv in order, one per epoch, and the best of them by the monitored number."""

    def __init__(self, monitor: str, patience: int | None, *, higher_is_better: bool) -> None:
        self._monitor, self._patience = monitor, patience
        self._sign = 1 if higher_is_better else -1
        self.rows: list[dict[str, float | int | None]] = []
        self.best_epoch = 0
        self._best_rank: tuple[float, float] | None = None
        self._evaluations_since_best = 0

    @property
    def epochs(self) -> int:
        """Epochs that have ended."""
        return len(self.rows)

    @property
    def out_of_patience(self) -> bool:
        """Whether early stopping is due."""
        return self._patience is not None and self._evaluations_since_best >= self._patience

    def add(self, row: dict[str, Any]) -> bool:
        """Append one epoch's numbers; return whether it is the best so far.

        Of equal values the lower validation loss is better: while AP stays at zero, that is progress too.
        A row without the monitored number (not evaluated) is neither better nor worse.
        """
        self.rows.append(row)
        value = row.get(self._monitor)
        if value is None:
            return False
        rank = (self._sign * value, -row["val_loss"])
        if self._best_rank is None or rank > self._best_rank:
            self._best_rank, self.best_epoch, self._evaluations_since_best = rank, row["epoch"], 0
            return True
        self._evaluations_since_best += 1
        return False

    def write_csv(self, path: Path) -> None:
        """Replace results.csv by the rows so far."""
        text = io.StringIO()
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_atomic(path, text.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """Return numbers and text only."""
        return {
            "rows": self.rows,
            "best_epoch": self.best_epoch,
            "best_rank": self._best_rank,
            "evaluations_since_best": self._evaluations_since_best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.rows = [dict(row) for row in state["rows"]]
        self.best_epoch, self._best_rank = state["best_epoch"], state["best_rank"]
        self._evaluations_since_best = state["evaluations_since_best"]
