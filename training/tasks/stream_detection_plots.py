"""A run of detection in streams."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.vision.boxes import Boxes, Detections
from shared.vision.drawing import draw_boxes, draw_detections
from training.plots import finish_axes, loss_curves, new_figure, save_figures, text
from training.run_folder import RunFolder
from training.tasks.task import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from shared.data.events.clips.frame_set import FrameSet

_TILE_PX = 480
_GROUND, _BRIGHTER, _DARKER = (40, 42, 48), (250, 250, 250), (80, 150, 255)


@dataclass(frozen=True)
class ShownWindow:
    """A window for `predictions`: its end, its frame, and its truth, in pixels of the frame.

    frame: [C, H, W] as the network sees it; boxes: [n, 4] xyxy; labels int64 [n]; at_rest bool [n].
    """

    recording: str
    time_us: int
    frame: NDArray[Any]
    boxes: Boxes
    labels: NDArray[np.int64]
    at_rest: NDArray[np.bool_]


def write_plots(
    folder: RunFolder,
    rows: list[dict[str, Any]],
    evaluation: Evaluation,
    split: str,
    train: "FrameSet",
) -> list[Path]:
    """Write every plot into the run folder and return their paths.

    loss: training and validation loss, AP and recall at rest by epoch; pr, ap, confusion: of `evaluation` on
    `split`; predictions: windows with labels beside detections. evaluation.curves holds what
    `StreamEvaluator.compute` gives, evaluation.examples pairs of ShownWindow and Detections.
    """
    followed = {"ap50": "AP50", "ap": "AP 50:95", "recall_at_rest": "recall at rest"}
    figures = {
        "loss": loss_curves(rows, followed),
        "pr": precision_recall(evaluation, split),
        "ap": average_precision(evaluation, split),
        "confusion": confusion(evaluation, split),
        "predictions": predictions(evaluation, split, train.class_names),
    }
    return save_figures(folder, figures)


def precision_recall(evaluation: Evaluation, split: str) -> "Figure":
    """COCO's interpolated curve of each class at IoU 0.5, with the serving threshold's point marked."""
    figure = new_figure(5.6, 4.8)
    axes = figure.subplots()
    for name, numbers in evaluation.curves["per_class"].items():
        if not numbers["boxes"]:
            axes.plot([], [], label=f"{name}: absent")
            continue
        label = f"{name}: AP50 {text(numbers['ap50'])}, {_boxes(numbers['boxes'])}"
        curve = numbers["curve"]
        (line,) = axes.plot(curve["recall"], curve["precision"], linewidth=2, label=label)
        if numbers["precision"] is not None:
            axes.plot([numbers["recall"]], [numbers["precision"]], "o", color=line.get_color())
    axes.plot([], [], "o", color="grey", label=f"score ≥ {evaluation.curves['score_threshold']:g}")
    axes.set(xlabel="recall", ylabel="precision", title=f"Precision and recall at IoU 0.5 ({split})")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    finish_axes(axes)
    return figure


def average_precision(evaluation: Evaluation, split: str) -> "Figure":
    """AP by class, AP by size of the box, and recall of what moves and of what is at rest, as bars."""
    numbers, curves = evaluation.numbers, evaluation.curves
    per_class = curves["per_class"]
    figure = new_figure(6.5 + 0.9 * len(per_class), 4.2)
    classes_axes, sizes_axes, rest_axes = figure.subplots(
        1, 3, width_ratios=[max(2, len(per_class)), 2, 2], sharey=True
    )
    ticks = [f"{name}\n{_boxes(values['boxes'])}" for name, values in per_class.items()]
    series = {
        "AP50": [values["ap50"] for values in per_class.values()],
        "AP 50:95": [values["ap"] for values in per_class.values()],
    }
    _bars(classes_axes, ticks, series)
    classes_axes.set(title=f"By class ({split})", ylim=(0, 1.12))
    sizes = {"small\n< 32² px": "ap_small", "medium": "ap_medium", "large\n> 96² px": "ap_large"}
    _bars(sizes_axes, list(sizes), {"AP 50:95": [numbers[name] for name in sizes.values()]}, first_colour=1)
    sizes_axes.set_title("By area in the frame")
    ticks = [f"moving\n{_boxes(curves['boxes_moving'])}", f"at rest\n{_boxes(curves['boxes_at_rest'])}"]
    best = numbers["best_f1_threshold"]
    series = {
        f"score ≥ {curves['score_threshold']:g}": [numbers["recall_moving"], numbers["recall_at_rest"]],
        f"best F1, {text(best)}": [numbers["recall_moving_best"], numbers["recall_at_rest_best"]],
    }
    _bars(rest_axes, ticks, series, first_colour=2)
    rest_axes.set_title("Recall at IoU 0.5")
    return figure


def confusion(evaluation: Evaluation, split: str) -> "Figure":
    """Truth against prediction at the serving threshold, as counts and as parts of each row.

    The last row is invented, the last column missed.
    """
    curves = evaluation.curves
    counts, parts = np.asarray(curves["confusion"]), np.asarray(curves["confusion_normalised"])
    side = 2.8 + 0.55 * len(counts)
    figure = new_figure(2 * side + 1.2, side)
    left, right = figure.subplots(1, 2)
    _matrix(left, counts, [[str(count) for count in row] for row in counts.tolist()], curves["class_names"])
    _matrix(
        right,
        parts,
        [["" if np.isnan(part) else f"{part:.2f}" for part in row] for row in parts.tolist()],
        curves["class_names"],
    )
    left.set_title("Counts")
    right.set_title("Parts of each row")
    figure.suptitle(f"Score ≥ {curves['score_threshold']:g} ({split})")
    return figure


def predictions(evaluation: Evaluation, split: str, class_names: Sequence[str]) -> "Figure":
    """Each window twice: with its labels, rest marked, and with the detections at the serving threshold."""
    pairs = evaluation.examples
    columns = 2 if len(pairs) > 1 else 1
    lines = max(1, -(-len(pairs) // columns))
    figure = new_figure(6.4 * columns, 2.7 * lines + 0.4)
    grid = figure.subplots(lines, columns * 2, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, (window, detections) in enumerate(pairs):
        line, column = divmod(number, columns)
        left, right = grid[line, 2 * column : 2 * column + 2]
        tile, scale = _tile(frame_picture(window.frame))
        captions = ["at rest" if resting else "" for resting in window.at_rest]
        left.imshow(draw_boxes(tile, window.boxes * scale, captions, window.labels.tolist()))
        name = f"{window.recording}, {window.time_us / 1e6:.2f} s"
        left.set_title(f"{name}: {len(window.boxes)} labels", fontsize=8)
        scaled = Detections(detections.boxes * scale, detections.scores, detections.labels)
        right.imshow(draw_detections(tile, scaled, class_names))
        right.set_title(f"predictions: {len(detections)}", fontsize=8)
    figure.suptitle(f"Labels beside predictions ({split})")
    return figure


def frame_picture(frame: NDArray[Any]) -> NDArray[np.uint8]:
    """Return uint8 [H, W, 3] RGB of a frame [C, H, W]: white where it got brighter, blue where darker.

    Unsigned frames are counts, the first half of their channels of polarity 0, the other of polarity 1: the
    more frequent one is drawn. Signed frames hold signs or their sums: the sign of the last channel that is
    not zero is drawn. Raises ValueError for counts in an odd number of channels.
    """
    if np.issubdtype(frame.dtype, np.unsignedinteger):
        if len(frame) % 2:
            raise ValueError(f"counts of two polarities come in an even number of channels, not {len(frame)}")
        darker, brighter = frame.reshape(2, -1, *frame.shape[1:]).sum(axis=1, dtype=np.int64)
        sign = np.where(brighter >= darker, 1, -1) * ((brighter + darker) > 0)
    else:
        last = len(frame) - 1 - np.argmax(frame[::-1] != 0, axis=0)
        sign = np.sign(np.take_along_axis(frame, last[None], axis=0)[0])
    picture = np.empty((*frame.shape[1:], 3), np.uint8)
    picture[...] = _GROUND
    picture[sign > 0] = _BRIGHTER
    picture[sign < 0] = _DARKER
    return picture


def _bars(
    axes: "Axes", ticks: list[str], series: dict[str, list[float | None]], *, first_colour: int = 0
) -> None:
    """Groups of bars with their values above them; "–" where there is nothing to measure."""
    width = 0.8 / len(series)
    for number, (label, values) in enumerate(series.items()):
        places = np.arange(len(values)) + (number - (len(series) - 1) / 2) * width
        heights = [value or 0.0 for value in values]
        axes.bar(places, heights, width, label=label, color=f"C{first_colour + number}")
        for place, value in zip(places, values, strict=True):
            caption = "–" if value is None else f"{value:.2f}"
            axes.text(place, (value or 0.0) + 0.01, caption, ha="center", va="bottom", fontsize=7)
    axes.set_xticks(range(len(ticks)), ticks, fontsize=8)
    finish_axes(axes)
    axes.legend(fontsize=7, loc="upper right", ncols=len(series))


def _matrix(axes: "Axes", values: NDArray[Any], captions: list[list[str]], class_names: list[str]) -> None:
    shown = np.nan_to_num(np.asarray(values, np.float64))
    axes.imshow(shown, cmap="Blues", vmin=0, vmax=max(shown.max(), 1e-9))
    for (row, column), value in np.ndenumerate(shown):
        nobody = row == column == len(shown) - 1  # background taken for background is not counted
        colour = "white" if value > shown.max() / 2 else "black"
        caption = "–" if nobody else captions[row][column]
        axes.text(column, row, caption, ha="center", va="center", color=colour, fontsize=9)
    axes.set_xticks(range(len(shown)), [*class_names, "missed"], rotation=30, ha="right")
    axes.set_yticks(range(len(shown)), [*class_names, "invented"])
    axes.set(xlabel="predicted", ylabel="truth")


def _tile(picture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], np.float32]:
    """Return the picture with a long side near _TILE_PX, and the factor; captions are drawn after this."""
    import cv2

    scale = _TILE_PX / max(picture.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    return np.asarray(
        cv2.resize(picture, None, fx=scale, fy=scale, interpolation=method), np.uint8
    ), np.float32(scale)


def _boxes(count: int) -> str:
    return f"{count:,} box{'' if count == 1 else 'es'}"
