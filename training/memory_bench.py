"""What a stream network's memory is worth: the same weights with what they carry along, and without."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from shared.cli.console import ExitCode, err, fail, out, print_json

if TYPE_CHECKING:
    from shared.config import RunConfig

_SHOWN: Mapping[str, str] = {
    "ap50": "AP50",
    "ap": "AP",
    "recall": "recall",
    "recall_at_rest": "recall at rest",
    "recall_moving": "recall moving",
}

Split = Literal["train", "val", "test"]
ProtocolName = Literal["all", "prophesee_gen1", "prophesee_gen4", "prophesee_gen4_half"]


@dataclass(frozen=True)
class MemoryComparison:
    """Numbers of a run's best weights on one split, by name as in metrics.json.

    carried: states go from window to window. forgotten: every window is as a stream's first. Recalls hold at
    `score_threshold`. windows: those with labels; at rest are boxes that have not moved for half a second.
    protocol: which windows, boxes and classes count (shared.metrics.stream_protocol).
    """

    run: str
    split: Split
    protocol: ProtocolName
    carried: dict[str, float | None]
    forgotten: dict[str, float | None]
    score_threshold: float
    windows: int
    boxes_at_rest: int
    boxes_moving: int
    device: str


def compare_memory(
    config: "RunConfig", folder: Path, split: Split, protocol: ProtocolName = "all"
) -> MemoryComparison:
    """Evaluate the best weights in `folder` twice on `split`; config.data.path is absolute or from here.

    Raises DataUnusable, where the data has no such split too, and TrainingError.
    """
    import torch

    from shared.families.registry import config_class, get_family
    from shared.metrics.stream_protocol import PROTOCOLS
    from training.checkpoint import load_weights
    from training.engine import uses_gpu
    from training.errors import DataUnusable
    from training.run_folder import RunFolder
    from training.splits import load_splits, usable_data
    from training.tasks.stream_detection import StreamDetectionTask
    from training.tasks.stream_evaluation import evaluate

    task, family = StreamDetectionTask(), get_family(config.family)
    model_config = config_class(config.family)(**config.model)
    path = Path(config.data.path)
    splits = load_splits(task, config.data, path, family, model_config, config.seed, lambda text: None)
    part = {"train": splits.train, "val": splits.val, "test": splits.test}[split]
    if part is None:
        raise DataUnusable(f"{path} has no {split} split; name another with --split")
    network = family.build(model_config)
    load_weights(network, RunFolder(folder).weights)
    device = torch.device("cuda" if uses_gpu(config.trainer) else "cpu")
    network.to(device)
    with usable_data():
        carried, forgotten = (
            evaluate(
                family,  # type: ignore[arg-type] # the task says so
                model_config,
                network,
                task.criterion(family, model_config, part),  # type: ignore[arg-type]
                task.evaluation_loader(family, model_config, config, part),  # type: ignore[arg-type]
                device=device,
                channels_last=config.trainer.channels_last,
                remember=remember,
                protocol=PROTOCOLS[protocol],
            )
            for remember in (True, False)
        )
    counts = carried.curves
    return MemoryComparison(
        folder.name,
        split,
        protocol,
        {name: carried.numbers[name] for name in _SHOWN},
        {name: forgotten.numbers[name] for name in _SHOWN},
        counts["score_threshold"],
        counts["frames"],
        counts["boxes_at_rest"],
        counts["boxes_moving"],
        str(device),
    )


def memory(
    run: Annotated[str, typer.Argument(help="A run of a stream family: its name or its folder.")],
    split: Annotated[Split, typer.Option(help="Split to compare on.")] = "test",
    protocol: Annotated[
        ProtocolName,
        typer.Option(help="What counts: all, or what published numbers count (docs/families/events.md)."),
    ] = "all",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compare a stream model with itself without memory: AP, and recall of what stands still."""
    from shared.config import ConfigError, load_run_config
    from shared.core.settings import CommonSettings
    from shared.families.registry import family_task
    from training.cli import existing_run, with_data_found
    from training.errors import TrainingError

    settings = CommonSettings()
    folder = existing_run(run, settings)
    try:
        config = load_run_config(folder / "config.yaml")
    except ConfigError as error:
        fail(f"{folder / 'config.yaml'}: {error}")
    if family_task(config.family) != "stream_detection":
        fail(f"{folder.name} is a run of {config.family}, which remembers nothing", code=ExitCode.USAGE)
    if not (folder / "weights.safetensors").is_file():
        fail(f"{folder.name} has no weights yet", hint=f"sightline train --resume {folder.name}")
    config = with_data_found(config, settings)
    err.print(f"evaluating {folder.name} on {split} twice", highlight=False)
    try:
        result = compare_memory(config, folder, split, protocol)
    except TrainingError as error:
        fail(str(error))
    if as_json:
        print_json(asdict(result))
        return
    from rich.table import Table

    table = Table("", *_SHOWN.values(), box=None, pad_edge=False)
    for name, numbers in (
        ("memory carried along", result.carried),
        ("forgotten at each window", result.forgotten),
    ):
        shown = ("–" if value is None else f"{value:.3f}" for value in numbers.values())
        table.add_row(name, *shown)
    out.print(table)
    out.print(
        f"{result.windows} windows with {result.boxes_moving} boxes that move and {result.boxes_at_rest} at "
        f"rest ({result.split}, counting {result.protocol}); recalls at a score of "
        f"{result.score_threshold:g}",
        highlight=False,
    )
