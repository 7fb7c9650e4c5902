"""A run of detection in pictures."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.data.dataset import DetectionSet
from shared.data.loading import load_image
from shared.vision.boxes import Detections
from shared.vision.drawing import draw_boxes, draw_detections
from training.plots import finish_axes, loss_curves, new_figure, save_figures, text
from training.run_folder import RunFolder
from training.tasks.task import Evaluation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TILE_PX = 480


def write_plots(
    folder: RunFolder,
    rows: list[dict[str, Any]],
    evaluation: Evaluation,
    split: str,
    train: DetectionSet,
) -> list[Path]:
    """Write every plot into the run folder and return their paths.

    loss: training and validation loss and AP by epoch; pr, f1, confusion: of `evaluation` on `split`;
    labels: where and how large the training boxes are; predictions: labels beside detections.
    """
    names = train.class_names
    figures = {
        "loss": loss_curves(rows, {"ap50": "AP50", "ap": "AP 50:95", "f1": "F1"}),
        "pr": precision_recall(evaluation, split),
        "f1": f1_curve(evaluation, split),
        "confusion": confusion(evaluation, split, names),
        "labels": label_statistics(train),
        "predictions": predictions(evaluation, split, names),
    }
    return save_figures(folder, figures)


def precision_recall(evaluation: Evaluation, split: str) -> "Figure":
    """Precision over recall at IoU 0.5, with the serving threshold marked."""
    figure = new_figure(5, 4.4)
    axes = figure.subplots()
    curve, numbers = evaluation.curves["pr_curve"], evaluation.numbers
    axes.plot(curve["recall"], curve["precision"], linewidth=2, label=f"AP50 {text(numbers['ap50'])}")
    axes.plot(
        [numbers["recall"] or 0.0],
        [numbers["precision"] or 0.0],
        "o",
        label=f"score ≥ {evaluation.curves['score_threshold']:g}",
    )
    axes.set(xlabel="recall", ylabel="precision", title=f"Precision and recall ({split})")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    finish_axes(axes)
    return figure


def f1_curve(evaluation: Evaluation, split: str) -> "Figure":
    """F1, precision and recall over the score threshold."""
    figure = new_figure(5, 4.4)
    axes = figure.subplots()
    curve, numbers = evaluation.curves["pr_curve"], evaluation.numbers
    scores = curve["score"][::-1]  # rising; between two scores the higher one's value holds
    for name in ("precision", "recall"):
        axes.plot(scores, curve[name][::-1], linewidth=1, label=name, drawstyle="steps-pre")
    label = f"F1 (best {text(numbers['best_f1'])})"
    axes.plot(scores, curve["f1"][::-1], linewidth=2, label=label, drawstyle="steps-pre")
    axes.axvline(evaluation.curves["score_threshold"], color="grey", linestyle=":", label="serving threshold")
    axes.set(xlabel="score threshold", title=f"F1 ({split})", xlim=(0, 1), ylim=(0, 1.02))
    finish_axes(axes)
    return figure


def confusion(evaluation: Evaluation, split: str, class_names: list[str]) -> "Figure":
    """Counts of truth against prediction at the serving threshold; last row invented, last column missed."""
    matrix = np.asarray(evaluation.curves["confusion"])
    side = 2.6 + 0.5 * len(matrix)
    figure = new_figure(side + 0.8, side)
    axes = figure.subplots()
    axes.imshow(matrix, cmap="Blues", vmin=0)
    for (row, column), count in np.ndenumerate(matrix):
        nobody = row == column == len(matrix) - 1  # background taken for background is not counted
        colour = "white" if count > matrix.max() / 2 else "black"
        axes.text(column, row, "–" if nobody else str(count), ha="center", va="center", color=colour)
    axes.set_xticks(range(len(matrix)), [*class_names, "missed"])
    axes.set_yticks(range(len(matrix)), [*class_names, "invented"])
    axes.set(
        xlabel="predicted",
        ylabel="truth",
        title=f"Score ≥ {evaluation.curves['score_threshold']:g} ({split})",
    )
    return figure


def label_statistics(train: DetectionSet) -> "Figure":
    """Sizes, centres and counts of the training boxes, relative to their images."""
    figure = new_figure(12, 3.8)
    sizes_axes, centres_axes, counts_axes = figure.subplots(1, 3)
    centres, sizes = [np.zeros((0, 2))], [np.zeros((0, 2))]
    for record in train.records:
        boxes, scale = record.boxes[~record.ignore], np.array([record.width, record.height])
        centres.append((boxes[:, :2] + boxes[:, 2:]) / 2 / scale)
        sizes.append((boxes[:, 2:] - boxes[:, :2]) / scale)
    centre, size = np.concatenate(centres), np.concatenate(sizes)
    sizes_axes.scatter(size[:, 0], size[:, 1], s=6, alpha=0.4)
    sizes_axes.set(xlabel="width / image width", ylabel="height / image height", title=f"{len(size)} boxes")
    sizes_axes.set(xlim=(0, None), ylim=(0, None))
    centres_axes.hist2d(centre[:, 0], centre[:, 1], bins=24, range=[[0, 1], [0, 1]], cmap="Blues")
    centres_axes.invert_yaxis()
    centres_axes.set(xlabel="x / image width", ylabel="y / image height", title="Centres")
    counts = np.array([int((~record.ignore).sum()) for record in train.records])
    counts_axes.hist(counts, bins=np.arange(counts.max() + 2) - 0.5, rwidth=0.9)
    counts_axes.set(xlabel="boxes in an image", ylabel="images", title=f"{len(counts)} training images")
    return figure


def predictions(evaluation: Evaluation, split: str, class_names: list[str]) -> "Figure":
    """Each image twice: with its labels, and with the detections above the serving threshold."""
    pairs = evaluation.examples
    columns = 2 if len(pairs) > 1 else 1
    lines = -(-len(pairs) // columns)
    figure = new_figure(6.4 * columns, 3.0 * lines + 0.4)
    grid = figure.subplots(lines, columns * 2, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (record, detections) in enumerate(pairs):
        line, column = divmod(number, columns)
        image = load_image(record)
        tile, scale = _tile(image)
        left, right = grid[line, 2 * column : 2 * column + 2]
        boxes, labels = record.boxes[~record.ignore] * scale, record.labels[~record.ignore].tolist()
        left.imshow(draw_boxes(tile, boxes, [""] * len(boxes), labels))
        left.set_title(f"labels: {len(boxes)}", fontsize=8)
        scaled = Detections(detections.boxes * scale, detections.scores, detections.labels)
        right.imshow(draw_detections(tile, scaled, class_names))
        right.set_title(f"predictions: {len(detections)}", fontsize=8)
    figure.suptitle(f"Labels beside predictions ({split})")
    return figure


def _tile(image: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """Return the image with a long side of _TILE_PX, and the factor; captions are drawn after this."""
    import cv2

    scale = _TILE_PX / max(image.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=method), np.float32(scale)
