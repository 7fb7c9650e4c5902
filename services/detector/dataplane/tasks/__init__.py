"""What is done before and after a graph, by the task that its manifest names: one file for each."""

from collections.abc import Mapping
from types import MappingProxyType

from services.detector.dataplane.tasks.classification import ClassificationTask
from services.detector.dataplane.tasks.detection import DetectionTask
from services.detector.dataplane.tasks.stream_detection import StreamDetectionTask
from services.detector.dataplane.tasks.task import TaskFactory

TASKS: Mapping[str, TaskFactory] = MappingProxyType(
    {
        "detection": DetectionTask,
        "classification": ClassificationTask,
        "stream_detection": StreamDetectionTask,
    }
)
