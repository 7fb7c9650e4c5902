"""From a request of the protocol to work for the data plane, and from its answers to output tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from services.detector.dataplane.inference import infer
from services.detector.dataplane.registry import LoadedVersion
from services.detector.dataplane.session import Tensors
from services.detector.dataplane.tensors import TensorWork
from services.detector.dataplane.work import Timing, Work
from services.detector.oip.answer import join_rows
from services.detector.oip.graph_inputs import check_outputs, encoded_pictures, graph_inputs
from services.detector.oip.problems import WrongRequest
from services.detector.oip.request import InferRequest
from services.detector.settings import DetectorSettings
from shared.core.problems import Problem


@dataclass(frozen=True, slots=True)
class Inference:
    """Output tensors by name, and for each stage the longest time that any picture spent in it."""

    tensors: Tensors
    timing: Timing


def plan(loaded: LoadedVersion, request: InferRequest, settings: DetectorSettings) -> list[Work[Tensors]]:
    """Return the work that `request` makes: one for all its rows, or one for each encoded picture.

    Raises the problem with its tensors or its parameters.
    """
    manifest = loaded.manifest
    if request.sequence:
        raise WrongRequest(
            f"model '{manifest.name}' keeps no state from one request to the next: leave out sequence_id, "
            "sequence_start and sequence_end"
        )
    pictures = encoded_pictures(request, manifest, max_pictures=settings.max_batch_images)
    if pictures is None:
        inputs = graph_inputs(request, manifest)
        check_outputs(request, [spec.name for spec in manifest.outputs], manifest.name)
        wanted = None if request.outputs is None else [output.name for output in request.outputs]
        return [TensorWork(inputs, wanted)]
    for picture in pictures:
        loaded.metrics.image_bytes.observe(len(picture))
    return [loaded.task.picture_tensors(picture, request.parameters) for picture in pictures]


async def run(
    loaded: LoadedVersion, request: InferRequest, works: Sequence[Work[Tensors]], settings: DetectorSettings
) -> Inference:
    """Return what the data plane answers to `works`; raises the problem of the first that failed.

    The request's own timeout bounds the wait in the queue where it is shorter than the server's.
    """
    timeout_s = request.schedule.timeout_s
    answers = await infer(
        loaded,
        works,
        wait_s=settings.deadline_s if timeout_s is None else min(timeout_s, settings.deadline_s),
        compute_timeout_s=settings.compute_timeout_s,
        priority=request.schedule.priority,
    )
    tensors: list[Tensors] = []
    timings: list[Timing] = []
    for number, answer in enumerate(answers):
        if isinstance(answer, Problem):
            if len(answers) > 1:
                answer.detail = f"picture {number}: {answer.detail}"
            raise answer
        tensors.append(answer[0])
        timings.append(answer[1])
    joined = join_rows(tensors)
    check_outputs(request, list(joined), loaded.name)  # of pictures their task alone knows the outputs
    return Inference(joined, _longest(timings))


def _longest(timings: list[Timing]) -> Timing:
    if len(timings) == 1:
        return timings[0]
    stages: dict[str, Any] = {
        stage: max(getattr(timing, stage) for timing in timings) for stage in Timing.__slots__
    }
    return Timing(**stages)
