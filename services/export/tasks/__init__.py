"""What is exported and how it is judged, by the family's task: one file for each."""

from collections.abc import Mapping
from types import MappingProxyType

from services.export.tasks.classification import ClassificationExport
from services.export.tasks.detection import DetectionExport
from services.export.tasks.stream_detection import StreamDetectionExport
from services.export.tasks.task import ExportTask

TASKS: Mapping[str, ExportTask] = MappingProxyType(
    {
        "detection": DetectionExport(),
        "classification": ClassificationExport(),
        "stream_detection": StreamDetectionExport(),
    }
)
