"""Where predictions are written: a folder per run, a document per picture, a line per video frame."""

from pathlib import Path
from typing import Any

from services.detector.cli.predictors import Prediction, Predictor


class OutputExists(FileExistsError):
    """The folder for the results holds something already."""


def new_results_folder(parent: Path, name: str = "predict") -> Path:
    """Create and return `parent/predict`, or predict2, predict3, … where those are taken."""
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def named_results_folder(folder: Path, *, force: bool) -> Path:
    """Create and return `folder`. Raises OutputExists if it is a file, or holds something and not `force`.

    With `force`, results replace files of their own names; everything else in the folder stays.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputExists(f"{folder} is a file; name a folder for the results")
    folder.mkdir(parents=True, exist_ok=True)
    if not force and any(folder.iterdir()):
        raise OutputExists(f"{folder} is not empty")
    return folder


def describe_picture(source: str, predictor: Predictor, prediction: Prediction) -> dict[str, Any]:
    """Return the document of one picture."""
    return {
        "source": source,
        "model": predictor.model,
        "version": prediction.version,
        "image": {"width": prediction.width, "height": prediction.height},
        predictor.finds: prediction.describe(),
    }
