"""What the plots of every task share. matplotlib is imported on use and never opens a window."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.core.files import atomic_path
from training.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 110


def save_figures(folder: RunFolder, figures: Mapping[str, "Figure"]) -> list[Path]:
    """Write each figure into the run folder as plots/<name>.png; return their paths."""
    paths = []
    for name, figure in figures.items():
        path = folder.plots / f"{name}.png"
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=_DPI)
        paths.append(path)
    return paths


def loss_curves(rows: list[dict[str, Any]], numbers: Mapping[str, str]) -> "Figure":
    """Loss and its terms on the left, validation `numbers` (label by name) on the right, by epoch."""
    figure = new_figure(10, 4)
    left, right = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in rows]
    for name in ("loss", "val_loss"):
        left.plot(
            *defined(rows, name), label={"loss": "training", "val_loss": "validation"}[name], linewidth=2
        )
    for name in [key for key in rows[0] if key.startswith("loss_")]:
        left.plot(*defined(rows, name), label=name.removeprefix("loss_"), linewidth=1, linestyle="--")
    left.set(xlabel="epoch", ylabel="loss", title="Loss", yscale="log")
    for name, label in numbers.items():
        right.plot(*defined(rows, name), label=label, linewidth=2)
    right.set(xlabel="epoch", title="Validation", ylim=(0, 1.02))
    for axes in (left, right):
        axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
        axes.xaxis.get_major_locator().set_params(integer=True)
        finish_axes(axes)
    return figure


def new_figure(width_in: float, height_in: float) -> "Figure":
    """Return an empty figure of this size in inches that no global state holds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)  # no pyplot: no global state, nothing to close
    return figure


def finish_axes(axes: Any) -> None:
    """Add what all axes with curves have: a faint grid and a legend."""
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def defined(rows: list[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    """Epochs and values of the rows that hold `name`."""
    defined = [(row["epoch"], row[name]) for row in rows if row.get(name) is not None]
    return [epoch for epoch, _ in defined], [value for _, value in defined]


def text(value: float | None) -> str:
    """Three decimals, or the word for a number that there is not."""
    return "undefined" if value is None else f"{value:.3f}"
