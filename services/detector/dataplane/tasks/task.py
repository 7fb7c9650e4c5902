"""What the data plane knows of any task."""

from typing import Protocol, TypeVar

from services.detector.dataplane.problems import WrongTask
from shared.repository.manifest import Manifest


class Task(Protocol):
    """Pre- and post-processing of one version; what more a task offers, only its own routes know."""

    name: str  # as manifests state it
    labels: list[str]


class TaskFactory(Protocol):
    """Makes the task of one version."""

    def __call__(self, manifest: Manifest, *, max_pixels: int, jpeg_quality: int) -> Task: ...


T = TypeVar("T")


def expect(task: Task, kind: type[T], model: str) -> T:
    """Return `task` as one of `kind`; raises WrongTask where the model does something else."""
    if not isinstance(task, kind):
        raise WrongTask(f"{model} is a {task.name} model; ask its own endpoint (GET /v1/models lists tasks)")
    return task
