"""What the data plane knows of any task."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from services.detector.dataplane.problems import WrongTask
from services.detector.dataplane.session import Tensors
from services.detector.dataplane.work import Work
from shared.repository.manifest import Manifest


class Task(Protocol):
    """Pre- and post-processing of one version; what more a task offers, only its own routes know."""

    name: str  # as manifests state it
    labels: list[str]

    def picture_tensors(self, data: bytes, parameters: Mapping[str, Any]) -> Work[Tensors]:
        """Return the work on one encoded picture, whose answer is the task's final one as tensors [1, …].

        `parameters` are what the request states in place of the model's own. Raises WrongParameter.
        """


class TaskFactory(Protocol):
    """Makes the task of one version."""

    def __call__(self, manifest: Manifest, *, max_pixels: int, jpeg_quality: int) -> Task: ...


T = TypeVar("T")


def expect(task: Task, kind: type[T], model: str) -> T:
    """Return `task` as one of `kind`; raises WrongTask where the model does something else."""
    if not isinstance(task, kind):
        raise WrongTask(f"{model} is a {task.name} model; ask its own endpoint (GET /v1/models lists tasks)")
    return task
