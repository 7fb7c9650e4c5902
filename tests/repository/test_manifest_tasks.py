"""A manifest's thresholds are those of its task."""

import pytest
from pydantic import ValidationError

from shared.repository.manifest import LabelThresholds, ManifestDraft, Preprocessing, TensorSpec, Thresholds

DETECTION = Thresholds(score_threshold=0.5, iou_threshold=0.5, max_detections=10)


def draft(task: str, thresholds: object) -> ManifestDraft:
    return ManifestDraft(
        family="tiny",
        task=task,
        precision="fp32",
        inputs=[TensorSpec(name="images", dtype="uint8", shape=[-1, 8, 8, 3])],
        outputs=[TensorSpec(name="probabilities", dtype="float32", shape=[-1, 2])],
        preprocessing=Preprocessing(height=8, width=8),
        labels=["pit", "scratch"],
        thresholds=thresholds,
    )


def test_each_task_takes_its_own_thresholds_and_reads_them_back() -> None:
    for made in (
        draft("detection", DETECTION),
        draft("classification", LabelThresholds(probability=[0.3, 0.6])),
    ):
        assert ManifestDraft.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize(
    ("task", "thresholds"),
    [
        ("detection", LabelThresholds(probability=[0.3, 0.6])),
        ("classification", DETECTION),
        ("classification", LabelThresholds(probability=[0.3])),
        ("segmentation", DETECTION),
    ],
)
def test_thresholds_of_another_task_or_of_other_labels_are_refused(task: str, thresholds: object) -> None:
    with pytest.raises(ValidationError):
        draft(task, thresholds)
