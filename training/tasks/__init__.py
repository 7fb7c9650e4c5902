"""What training does differently for each task, by the task that a family names: one file for each."""

from collections.abc import Mapping
from types import MappingProxyType

from training.tasks.classification import ClassificationTask
from training.tasks.detection import DetectionTask
from training.tasks.stream_detection import StreamDetectionTask
from training.tasks.task import TrainingTask

TASKS: Mapping[str, TrainingTask] = MappingProxyType(
    {task.name: task for task in (DetectionTask(), ClassificationTask(), StreamDetectionTask())}
)
