"""A run's final numbers beside those of the run that it names as its baseline."""

from typing import Any

import orjson

from shared.config import RunConfig
from training.errors import BaselineUnusable
from training.run_folder import RunFolder


def read_baseline(config: RunConfig, folder: RunFolder) -> dict[str, Any] | None:
    """Return metrics.json of the run `tracking.baseline`, which lies beside `folder`; None without one.

    Raises BaselineUnusable where that run is not there, or not complete.
    """
    if config.tracking.baseline is None:
        return None
    path = RunFolder(folder.path.parent / config.tracking.baseline).metrics
    try:
        metrics: dict[str, Any] = orjson.loads(path.read_bytes())
        metrics["val"].items(), metrics["run_id"], metrics["data_hash"].items()
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise BaselineUnusable(
            f"tracking.baseline={config.tracking.baseline}: {path} does not hold a run's final numbers "
            f"({error!r}); name a complete run in the same folder as this one"
        ) from error
    return metrics


def compare_with_baseline(metrics: dict[str, Any], baseline: dict[str, Any]) -> dict[str, Any]:
    """Return what metrics.json says of the baseline: its numbers on the split that both have, and the gain.

    Test where both have it, or else validation; `gain` holds this run's number minus the baseline's, for
    every number that both have. `same_data`: whether both were measured on equal data.
    """
    split = "test" if "test" in metrics and "test" in baseline else "val"
    own, other = metrics[split], baseline.get(split, {})
    both = {name for name in own if own[name] is not None and other.get(name) is not None}
    return {
        "run_id": baseline["run_id"],
        "split": split,
        "same_data": metrics["data_hash"].get(split) == baseline["data_hash"].get(split),
        "numbers": {name: other[name] for name in own if name in both},
        "gain": {name: own[name] - other[name] for name in own if name in both},
    }
