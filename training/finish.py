"""After the last epoch: the best weights' numbers, metrics.json, plots, and the tracker's copy."""

import importlib.metadata
import math
import platform
from contextlib import nullcontext
from typing import Any

import numpy as np
import orjson
import torch

from shared.config import RunConfig
from shared.core.files import write_atomic
from shared.data.splits import Splits
from shared.families.registry import config_class, family_task, get_family
from training.baseline import compare_with_baseline, read_baseline
from training.callbacks import stop_if_asked
from training.checkpoint import load_buffers, load_weights, room_for
from training.control import RunControl
from training.engine import resolve_precision, uses_gpu
from training.run_folder import RunFolder
from training.splits import usable_data
from training.tasks import TASKS
from training.tasks.task import Evaluation
from training.tracking import Tracker

_LIBRARIES = ("sightline", "torch", "lightning", "numpy", "opencv-python-headless", "albumentations")
_EXAMPLES = 8


@usable_data()
def finish(
    config: RunConfig,
    folder: RunFolder,
    splits: Splits[Any],
    control: RunControl,
    tracker: Tracker,
    history: dict[str, Any],
) -> dict[str, Any]:
    """Evaluate weights.safetensors on val and, where there is one, test; write plots, then metrics.json.

    Returns what metrics.json holds.
    """
    task = TASKS[family_task(config.family)]
    last_epoch = len(history["rows"])
    control.report("log", message=f"evaluating the best weights (epoch {history['best_epoch']})")
    evaluations = {"val": evaluate_weights(config, folder, splits, splits.val, control, last_epoch)}
    if splits.test is not None and len(splits.test):
        evaluations["test"] = evaluate_weights(
            config,
            folder,
            splits,
            splits.test,
            control,
            last_epoch,
            thresholds=evaluations["val"].thresholds,
        )
    evaluated_on = "test" if "test" in evaluations else "val"
    control.ensure_owned()
    with room_for(folder.metrics, folder.checkpoint):
        plots = task.write_plots(
            folder, history["rows"], evaluations[evaluated_on], evaluated_on, splits.train
        )
        results = task.write_results(folder, splits, evaluations)
        numbers = {name: evaluation.numbers for name, evaluation in evaluations.items()}
        tracked = {
            f"{split}/{name}": value for split, values in numbers.items() for name, value in values.items()
        }
        kept = [folder.config, folder.results, folder.weights, folder.splits, folder.thresholds, *plots]
        if warning := tracker.log_result(tracked, [file for file in kept if file.exists()]):
            control.report("log", message=warning)
        metrics = {
            "run_id": folder.run_id,
            "family": config.family,
            "recipe": config.recipe,
            "hypothesis": config.tracking.hypothesis,
            "epochs": len(history["rows"]),
            "best_epoch": history["best_epoch"],
            "monitor": config.trainer.monitor,
            "evaluated_on": evaluated_on,
            **numbers,
            **results,
            "training_seconds": round(sum(row["seconds"] for row in history["rows"]), 3),
            "parameters": _parameter_count(config),
            task.parts: {name: len(part) for name, part in _parts(splits).items()},
            "data_hash": {name: part.content_hash() for name, part in _parts(splits).items()},
            "precision": resolve_precision(config.trainer),
            "device": torch.cuda.get_device_name() if uses_gpu(config.trainer) else platform.machine(),
            "libraries": _versions(),
            "tracking": tracker.state(),
        }
        if (baseline := read_baseline(config, folder)) is not None:
            metrics["baseline"] = compare_with_baseline(metrics, baseline)
        write_atomic(folder.metrics, orjson.dumps(_json_ready(metrics), option=orjson.OPT_INDENT_2))
    return metrics


def evaluate_weights(
    config: RunConfig,
    folder: RunFolder,
    splits: Splits[Any],
    part: Any,
    control: RunControl,
    last_epoch: int,
    *,
    thresholds: list[float] | None = None,
) -> Evaluation:
    """Evaluate the run's best weights on `part` of `splits`, in single precision on one device."""
    family = get_family(config.family)
    task = TASKS[family.task]
    model_config = config_class(config.family)(**config.model)
    network = family.build(model_config)
    load_weights(network, folder.weights)
    device = torch.device("cuda" if uses_gpu(config.trainer) else "cpu")
    memory_format = torch.channels_last if config.trainer.channels_last else torch.contiguous_format
    criterion = task.criterion(family, model_config, splits.train)
    if isinstance(criterion, torch.nn.Module):
        load_buffers(criterion, folder.checkpoint, "criterion")
        criterion.to(device)
    return task.evaluate(
        family,
        model_config,
        network.to(device, memory_format=memory_format),  # type: ignore[call-overload]
        criterion,
        task.evaluation_loader(family, model_config, config, part),
        device=device,
        autocast=nullcontext,
        channels_last=config.trainer.channels_last,
        after_batch=lambda: stop_if_asked(control, folder.path, last_epoch),
        examples=_EXAMPLES,
        thresholds=thresholds,
    )


def _parts(splits: Splits[Any]) -> dict[str, Any]:
    parts = {"train": splits.train, "val": splits.val, "test": splits.test}
    return {name: part for name, part in parts.items() if part is not None}


def _parameter_count(config: RunConfig) -> int:
    network = get_family(config.family).build(config_class(config.family)(**config.model))
    return sum(parameter.numel() for parameter in network.parameters())


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def _json_ready(value: Any) -> Any:
    """Replace what JSON cannot say: numpy's numbers by Python's, NaN by null."""
    if isinstance(value, dict):
        return {key: _json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_ready(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
