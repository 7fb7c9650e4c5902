"""What the engine costs: images a second against a plain PyTorch loop over the same network and batch."""

import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.cli.console import err, out, print_json

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

_DISTINCT_BATCHES = 4


@dataclass(frozen=True)
class LoopComparison:
    """Images a second of the engine and of the plain loop, per repeat.

    `ratio` is the median of engine ÷ plain over the repeats; `cpu_ratio` the same for images per second of
    processor time, which other programs on the machine hardly disturb.
    """

    engine_images_per_s: list[float]
    plain_images_per_s: list[float]
    ratio: float
    cpu_ratio: float
    image_size: int
    batch_size: int
    steps: int
    threads: int
    device: str


def compare_with_plain_loop(
    *,
    depth: str = "base",
    image_size: int = 416,
    batch_size: int = 8,
    steps: int = 12,
    repeats: int = 5,
    num_threads: int | None = None,
    ema_decay: float = 0.0,
) -> LoopComparison:
    """Train the person network on random images by the engine and by a plain loop, turn about.

    Both draw the same uint8 batches from a DataLoader, compute the same loss with the same optimiser, memory
    format, precision (fp32) and threads. The first step of each run warms up and is not counted. The engine
    does all that it does in a real run between two epoch ends: learning rate, finite check, sums, stop check,
    and events.
    """
    import torch

    before = torch.get_num_threads()
    if num_threads:
        torch.set_num_threads(num_threads)
    try:
        setup = _Setup(depth, image_size, batch_size, steps, ema_decay)
        loops: dict[str, Callable[[], _Clock]] = {"engine": setup.run_engine, "plain": setup.run_plain}
        rates: dict[str, list[float]] = {name: [] for name in loops}
        cpu_rates: dict[str, list[float]] = {name: [] for name in loops}
        for repeat in range(repeats):
            # Turn about, so that a machine that slows down slows both.
            for name in sorted(loops, reverse=bool(repeat % 2)):
                clock = loops[name]()
                rates[name].append(steps * batch_size / clock.seconds)
                cpu_rates[name].append(steps * batch_size / clock.cpu_seconds)
        return LoopComparison(
            rates["engine"],
            rates["plain"],
            _median_ratio(rates),
            _median_ratio(cpu_rates),
            image_size,
            batch_size,
            steps,
            torch.get_num_threads(),
            str(setup.device),
        )
    finally:
        torch.set_num_threads(before)


def training(
    depth: Annotated[str, typer.Option(help="Depth of the person network: light, base or deep.")] = "base",
    image_size: Annotated[int, typer.Option(help="Side of the input in pixels.")] = 416,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per step.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Steps per run.")] = 12,
    repeats: Annotated[int, typer.Option(min=1, help="Runs of each loop, turn about.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of PyTorch for both.")] = None,
    ema_decay: Annotated[float, typer.Option(help="Weight average; 0: off, as in the plain loop.")] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Compare training's images a second with a plain PyTorch loop."""
    err.print(f"{repeats} runs of {steps} steps each, turn about", highlight=False)
    result = compare_with_plain_loop(
        depth=depth,
        image_size=image_size,
        batch_size=batch_size,
        steps=steps,
        repeats=repeats,
        num_threads=threads,
        ema_decay=ema_decay,
    )
    if as_json:
        print_json(asdict(result))
        return
    from rich.table import Table

    table = Table("loop", "images/s (median)", "per run", box=None, pad_edge=False)
    for name, rates in (("engine", result.engine_images_per_s), ("plain", result.plain_images_per_s)):
        table.add_row(name, f"{statistics.median(rates):.2f}", " ".join(f"{rate:.2f}" for rate in rates))
    out.print(table)
    out.print(
        f"engine ÷ plain: {result.ratio:.3f} of the images a second, {result.cpu_ratio:.3f} per processor "
        f"second (medians of pairs; {result.threads} threads, {result.device})"
    )


class _Setup:
    """The data and the settings that both loops share."""

    def __init__(self, depth: str, image_size: int, batch_size: int, steps: int, ema_decay: float) -> None:
        import torch

        from shared.config import compose_run
        from shared.families.family import DetectionFamily
        from shared.families.registry import config_class, get_family
        from training.engine import uses_gpu

        self.config = compose_run(
            "person",
            overrides=[
                "data.path=unused",
                f"model.depth={depth}",
                f"model.image_size={image_size}",
                f"trainer.batch_size={batch_size}",
                f"trainer.ema_decay={ema_decay}",
                "trainer.gradient_clip_norm=0",
                'trainer.precision="32"',
                "trainer.max_epochs=1",
            ],
        )
        family = get_family("person")
        assert isinstance(family, DetectionFamily)
        self.family = family
        self.model_config = config_class("person")(**self.config.model)
        self.steps = steps + 1  # the first one warms up
        self.device = torch.device("cuda" if uses_gpu(self.config.trainer) else "cpu")
        self._batches = self._random_batches(batch_size, image_size)

    def run_engine(self) -> "_Clock":
        """Time all steps but the first, through Lightning and the engine's callbacks."""
        import tempfile
        from pathlib import Path

        import lightning.pytorch as pl
        import torch

        from training.callbacks import StepWatch
        from training.control import Unattended
        from training.engine import build_trainer, quiet_lightning
        from training.module import RunModule
        from training.run_folder import RunFolder

        clock = _Clock()

        class Timer(pl.Callback):
            def on_train_batch_end(self, *_: Any) -> None:
                clock.tick()

        with tempfile.TemporaryDirectory() as folder, quiet_lightning():
            torch.manual_seed(0)
            run = RunFolder(Path(folder))
            module = RunModule(
                self.config,
                self.family,
                self.model_config,
                self.family.build(self.model_config),
                partial(self.family.loss, self.model_config),
                steps_per_epoch=self.steps,
                checkpoint=run.checkpoint,
            )
            callbacks = [StepWatch(Unattended(), run), Timer()]
            trainer = build_trainer(self.config.trainer, callbacks, default_root_dir=folder)
            trainer.fit(module, self._loader())
        return clock

    def run_plain(self) -> "_Clock":
        """Time all steps but the first, in the loop that one writes by hand."""
        import torch

        from training.optimization import build_optimizer, scaled_lr

        torch.manual_seed(0)
        network = self.family.build(self.model_config)
        network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = build_optimizer(self.config.optimizer, network, scaled_lr(self.config))
        clock = _Clock()
        network.train()
        for batch in self._loader():
            images = batch.images.to(self.device).permute(0, 3, 1, 2).float() / 255
            outputs = network(images)
            loss = self.family.loss(self.model_config, outputs, batch.targets.to(self.device))["loss"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            clock.tick()
        return clock

    def _loader(self) -> "DataLoader[Any]":
        from torch.utils.data import DataLoader

        batches = [self._batches[step % _DISTINCT_BATCHES] for step in range(self.steps)]
        return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]

    def _random_batches(self, batch_size: int, image_size: int) -> list[Any]:
        import torch

        from training.tasks.pictures import TrainingBatch

        generator = torch.Generator().manual_seed(0)
        batches = []
        for _ in range(_DISTINCT_BATCHES):
            shape = (batch_size, image_size, image_size, 3)
            images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
            corner = torch.rand(batch_size, 3, 2, generator=generator) * image_size * 0.7
            boxes = torch.cat([corner, corner + image_size * 0.2], dim=-1)  # [N, 3, 4]
            labels = [torch.zeros(3, dtype=torch.int64)] * batch_size
            size = (image_size, image_size)
            targets = self.family.encode_targets(self.model_config, list(boxes), labels, size, [])
            batches.append(TrainingBatch(images, targets))
        return batches


class _Clock:
    """Measures from the end of the first step to the end of the last, on the wall and on the processor."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None
        self._last = (0.0, 0.0)

    def tick(self) -> None:
        """Mark the end of a step, once the device is done with it."""
        import torch

        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self._last = time.perf_counter(), time.process_time()
        self._first = self._first or self._last

    @property
    def seconds(self) -> float:
        assert self._first is not None
        return self._last[0] - self._first[0]

    @property
    def cpu_seconds(self) -> float:
        assert self._first is not None
        return self._last[1] - self._first[1]


def _median_ratio(rates: dict[str, list[float]]) -> float:
    pairs = zip(rates["engine"], rates["plain"], strict=True)
    return statistics.median(engine / plain for engine, plain in pairs)
