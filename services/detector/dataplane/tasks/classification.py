"""Multi-label classification: decode and letterbox before the graph, thresholds and heat maps after it."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.detector.dataplane.problems import InferenceFailed, NoActivationMaps, UnknownLabel
from services.detector.dataplane.session import Tensors, UnusableGraph
from services.detector.dataplane.tasks.parameters import refuse_unknown
from services.detector.dataplane.tasks.pictures import PictureInput
from shared.repository.manifest import LabelThresholds, Manifest
from shared.vision.heatmap import draw_heat, encode_png, heat_on_source
from shared.vision.letterbox import Letterbox

PROBABILITIES, MAPS = "probabilities", "activation_maps"
_LEAST_THRESHOLD = 1e-3  # below it every place would speak for the label


@dataclass(frozen=True, slots=True)
class LabelOverrides:
    """What a request asks for: a threshold for every label in place of the manifest's, or None for those."""

    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Heatmap:
    """Which label's heat map is wanted; None: the one most above its threshold, or nearest to it."""

    label: str | None = None


@dataclass(frozen=True, slots=True)
class ClassificationResult:
    """Labels of a picture, whose upright size is (height, width).

    probabilities, thresholds: float32 [C]; present: bool [C], from the threshold on. heat: float32
    [height, width] in 0..1 for the label number `heat_label`, heatmap_png the picture under it; None unless
    asked for.
    """

    probabilities: NDArray[np.float32]
    thresholds: NDArray[np.float32]
    present: NDArray[np.bool_]
    size: tuple[int, int]
    heat_label: int | None = None
    heat: NDArray[np.float32] | None = None
    heatmap_png: bytes | None = None


class ClassificationTask:
    """Pre- and post-processing of one version, as its manifest states it."""

    name = "classification"

    def __init__(self, manifest: Manifest, *, max_pixels: int, jpeg_quality: int) -> None:
        """Raise UnusableGraph for a manifest whose outputs are not those of its labels."""
        thresholds = manifest.thresholds
        assert isinstance(thresholds, LabelThresholds)  # the manifest refuses a classification model without
        outputs = {output.name: output.shape for output in manifest.outputs}
        for name, rank in ((PROBABILITIES, 2), (MAPS, 4)):
            shape = outputs.get(name)
            if shape is None and name == MAPS:
                continue
            if shape is None or len(shape) != rank or shape[1] != len(manifest.labels):
                raise UnusableGraph(
                    f"{manifest.name} version {manifest.version} has {len(manifest.labels)} labels, and its "
                    f"output {name!r} the shape {shape}; export it again"
                )
        self.labels = manifest.labels
        self.thresholds = np.array(thresholds.probability, np.float32)
        # From here on a place of a map speaks for its label: the threshold's logit, and 0 at most. The mean
        # of a present label's map is its logit, so it has a warm place, however low its threshold.
        least = self.thresholds.clip(_LEAST_THRESHOLD, 0.5)
        self._logits_needed = np.log(least / (1 - least))  # [C]
        self.pictures = PictureInput(manifest, max_pixels=max_pixels)
        self.has_maps = MAPS in outputs
        self._model = manifest.name

    def work(
        self, data: bytes, overrides: LabelOverrides, *, heatmap: Heatmap | None = None
    ) -> "ClassificationWork":
        """Return the work on one encoded picture. Raises UnknownLabel, or NoActivationMaps."""
        if heatmap is not None:
            self.check_heatmap(heatmap)
        return ClassificationWork(self, data, overrides, heatmap)

    def check_heatmap(self, heatmap: Heatmap) -> None:
        """Raise UnknownLabel or NoActivationMaps where this version cannot draw it."""
        if heatmap.label is not None and heatmap.label not in self.labels:
            near = difflib.get_close_matches(heatmap.label, self.labels, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UnknownLabel(
                f"{self._model} has no label {heatmap.label[:80]!r}{hint} "
                f"(there are: {', '.join(self.labels)})"
            )
        if not self.has_maps:
            raise NoActivationMaps(
                f"this version of {self._model} has no output {MAPS!r}, from which a heat map is drawn; ask "
                "for probabilities alone, or export the run again"
            )

    def picture_tensors(self, data: bytes, parameters: Mapping[str, Any]) -> "ClassificationTensorWork":
        """Return the work on one encoded picture whose answer is probabilities float32 [1, C].

        There is nothing to state for it: what is present follows from the manifest's thresholds. Raises
        WrongParameter.
        """
        refuse_unknown(parameters, ())
        return ClassificationTensorWork(self.work(data, LabelOverrides()))

    def classify(
        self,
        outputs: Tensors,
        geometry: Letterbox,
        overrides: LabelOverrides,
        heatmap: Heatmap | None = None,
    ) -> ClassificationResult:
        """Return one picture's answer.

        outputs: probabilities float32 [1, C] and activation_maps float32 [1, C, h, w]. Raises InferenceFailed
        for numbers that are not finite.
        """
        probabilities = outputs[PROBABILITIES][0]
        if not np.isfinite(probabilities).all():
            raise InferenceFailed("the model answered with numbers that are not finite; export it again")
        thresholds = self.thresholds
        if overrides.threshold is not None:
            thresholds = np.full_like(thresholds, overrides.threshold)
        present = probabilities >= thresholds
        result = ClassificationResult(probabilities, thresholds, present, geometry.source_size)
        if heatmap is None:
            return result
        label = (
            self.labels.index(heatmap.label)
            if heatmap.label is not None
            else int((probabilities - thresholds).argmax())
        )
        activations = outputs[MAPS][0, label]
        if not np.isfinite(activations).all():
            raise InferenceFailed("the model's activation maps are not finite; export it again")
        heat = heat_on_source(activations - self._logits_needed[label], geometry)
        return replace(result, heat_label=label, heat=heat)

    def describe(self, result: ClassificationResult) -> list[dict[str, Any]]:
        """Return every label in JSON's types, in the order of label_id; numbers to a millionth."""
        rows = zip(
            self.labels,
            result.probabilities.astype("float64").round(6).tolist(),
            result.thresholds.astype("float64").round(6).tolist(),
            result.present.tolist(),
            strict=True,
        )
        return [
            {
                "label": label,
                "label_id": number,
                "probability": probability,
                "threshold": threshold,
                "present": present,
            }
            for number, (label, probability, threshold, present) in enumerate(rows)
        ]


class ClassificationWork:
    """One picture on its way through a batch: `prepare` before the graph, `finish` after it."""

    rows = 1

    def __init__(
        self, task: ClassificationTask, data: bytes, overrides: LabelOverrides, heatmap: Heatmap | None
    ) -> None:
        self._task = task
        self._data = data
        self._overrides = overrides
        self._heatmap = heatmap
        self._image: NDArray[np.uint8] | None = None
        self._geometry: Letterbox | None = None

    def prepare(self) -> Tensors:
        """Return the graph's inputs, one row each."""
        image = self._task.pictures.decode(self._data)
        inputs, self._geometry = self._task.pictures.letterbox(image)
        if self._heatmap is not None:
            self._image = image
        return inputs

    def finish(self, outputs: Tensors) -> ClassificationResult:
        """Return the answer from this picture's rows of the graph's outputs."""
        if self._geometry is None:
            raise RuntimeError("finish was called before prepare")
        result = self._task.classify(outputs, self._geometry, self._overrides, self._heatmap)
        if self._image is None or result.heat is None:
            return result
        return replace(result, heatmap_png=encode_png(draw_heat(self._image, result.heat)))


class ClassificationTensorWork:
    """As ClassificationWork, for clients that take tensors."""

    rows = 1

    def __init__(self, work: ClassificationWork) -> None:
        self._work = work

    def prepare(self) -> Tensors:
        """Return the graph's inputs, one row each."""
        return self._work.prepare()

    def finish(self, outputs: Tensors) -> Tensors:
        """Return the answer from this picture's rows of the graph's outputs."""
        return {PROBABILITIES: self._work.finish(outputs).probabilities[None].astype(np.float32, copy=False)}
