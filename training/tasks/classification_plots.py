"""A run of classification in pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.data.classification import ClassificationRecord, ClassificationSet
from shared.data.loading import load_image
from training.plots import finish_axes, loss_curves, new_figure, save_figures, text
from training.run_folder import RunFolder
from training.tasks.task import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PICTURE_PX = 640
_RIGHT, _WRONG = "tab:green", "tab:red"


def write_plots(
    folder: RunFolder,
    rows: list[dict[str, Any]],
    evaluation: Evaluation,
    split: str,
    train: ClassificationSet,
) -> list[Path]:
    """Write every plot into the run folder and return their paths.

    loss: training and validation loss and F1 by epoch; pr, confusion: of `evaluation` on `split`, by class;
    labels: how many training pictures hold each class, and which hold several; predictions: pictures with
    the probabilities of all classes.
    """
    names = train.class_names
    figures = {
        "loss": loss_curves(rows, {"macro_f1": "macro F1", "map": "mAP", "micro_f1": "micro F1"}),
        "pr": precision_recall(evaluation, split),
        "confusion": confusion(evaluation, split),
        "labels": label_statistics(train),
        "predictions": predictions(evaluation, split, names),
    }
    return save_figures(folder, figures)


def precision_recall(evaluation: Evaluation, split: str) -> "Figure":
    """Precision over recall of each class, with its threshold's point marked."""
    figure = new_figure(5.6, 4.8)
    axes = figure.subplots()
    for name, curve in evaluation.curves["per_class"].items():
        numbers = evaluation.per_class[name]
        if not numbers["support"]:
            axes.plot([], [], label=f"{name}: absent")
            continue
        label = f"{name}: AP {text(numbers['ap'])}, {numbers['support']} pictures"
        (line,) = axes.plot(curve["recall"], curve["precision"], linewidth=2, label=label)
        axes.plot([numbers["recall"]], [numbers["precision"]], "o", color=line.get_color())
    axes.plot([], [], "o", color="grey", label="at the class's threshold")
    axes.set(xlabel="recall", ylabel="precision", title=f"Precision and recall by class ({split})")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    finish_axes(axes)
    return figure


def confusion(evaluation: Evaluation, split: str) -> "Figure":
    """Counts of truth against prediction, one matrix for each class, at the class's threshold."""
    count = len(evaluation.per_class)
    columns = min(count, 4)
    lines = -(-count // columns)
    figure = new_figure(2.6 * columns + 0.4, 2.7 * lines + 0.5)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (name, numbers) in zip(grid.flat, evaluation.per_class.items(), strict=False):
        axes.set_axis_on()
        matrix = np.array([[numbers["tp"], numbers["fn"]], [numbers["fp"], numbers["tn"]]])
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)  # of what is true
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), value in np.ndenumerate(matrix):
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(value), ha="center", va="center", color=colour)
        axes.set_xticks([0, 1], ["yes", "no"])
        axes.set_yticks([0, 1], ["yes", "no"])
        axes.set(xlabel="predicted", ylabel="truth")
        axes.set_title(f"{name} at {numbers['threshold']:.2f}: F1 {numbers['f1']:.3f}", fontsize=9)
    figure.suptitle(f"Confusion by class ({split})")
    return figure


def label_statistics(train: ClassificationSet) -> "Figure":
    """Training pictures that hold each class or none, and how often two classes come together."""
    labels = train.labels()
    names, counts = train.class_names, labels.sum(axis=0)
    figure = new_figure(5.5 + 0.35 * len(names), 3.8)
    bars_axes, together_axes = figure.subplots(1, 2)
    heights = [*counts.tolist(), int((~labels.any(axis=1)).sum())]
    bars = bars_axes.bar([*names, "none"], heights, color=["tab:blue"] * len(names) + ["lightgrey"])
    bars_axes.bar_label(bars, fontsize=8)
    bars_axes.set(ylabel="pictures", title=f"{len(labels)} training pictures")
    together = labels.astype(np.int64).T @ labels.astype(np.int64)  # [C, C]
    together_axes.imshow(together / np.maximum(counts[:, None], 1), cmap="Blues", vmin=0, vmax=1)
    for (row, column), value in np.ndenumerate(together):
        colour = "white" if value > counts[row] / 2 else "black"
        together_axes.text(column, row, str(value), ha="center", va="center", color=colour, fontsize=8)
    together_axes.set_xticks(range(len(names)), names)
    together_axes.set_yticks(range(len(names)), names)
    together_axes.set(xlabel="and this class", ylabel="pictures with", title="Classes together")
    return figure


def predictions(evaluation: Evaluation, split: str, class_names: list[str]) -> "Figure":
    """Pictures with a bar for each class's probability, its threshold as a tick, green where it is right."""
    pairs = evaluation.examples
    figure = new_figure(11, (0.55 + 0.24 * len(class_names)) * len(pairs) + 0.6)
    grid = figure.subplots(len(pairs), 2, squeeze=False, width_ratios=[3, 1])
    thresholds = np.asarray(evaluation.thresholds)
    for (left, right), (record, probabilities) in zip(grid, pairs, strict=True):
        left.imshow(_picture(record))
        left.set_axis_off()
        left.set_title(f"{record.image_id}: {_held(record.labels, class_names)}", fontsize=8, loc="left")
        given = probabilities >= thresholds
        colours = [_RIGHT if right_one else _WRONG for right_one in given == record.labels]
        places = np.arange(len(class_names))
        right.barh(places, probabilities, color=colours)
        right.vlines(thresholds, places - 0.45, places + 0.45, color="black", linewidth=1)
        right.set_yticks(places, class_names, fontsize=7)
        right.tick_params(axis="x", labelsize=7)
        right.invert_yaxis()
        right.set_xlim(0, 1)
    figure.suptitle(
        f"Labels and probabilities ({split}); the line is the threshold, red is wrong", fontsize=10
    )
    return figure


def _held(labels: NDArray[np.bool_], class_names: list[str]) -> str:
    held = [name for name, holds in zip(class_names, labels, strict=True) if holds]
    return ", ".join(held) or "none"


def _picture(record: ClassificationRecord) -> NDArray[np.uint8]:
    import cv2

    image = load_image(record)
    scale = min(1.0, _PICTURE_PX / max(image.shape[:2]))
    return np.asarray(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
