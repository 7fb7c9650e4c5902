"""Inference: tensors or encoded pictures in, tensors out."""

import asyncio
from dataclasses import replace
from typing import Any

from fastapi import APIRouter, Request, Response

from services.detector.dataplane import problems
from services.detector.dataplane.streams.problems import TooManyStreams
from services.detector.disconnect import unless_client_gone
from services.detector.json_body import body_of
from services.detector.oip import encoding
from services.detector.oip.answer import AnswerBody, write_answer
from services.detector.oip.graph_inputs import read_raw_request
from services.detector.oip.inference import plan, run
from services.detector.oip.problems import ERROR_FORM, PREFIX, UnknownEncoding, WrongRequest
from services.detector.oip.request import HEADER_LENGTH, header_length, read_request
from services.detector.oip.schemas import InferAnswer, InferRequest
from services.detector.reception import admitted
from services.detector.state import Detector, detector_of
from services.detector.timing import server_timing
from shared.core.http import problem_responses
from shared.core.problems import PayloadTooLarge, QueueFull
from shared.core.shell import BodyTimeout
from shared.repository.problems import UnknownModel, UnknownVersion

# From here on compressing takes longer than a change of threads.
_LARGE_BYTES = 64 * 1024
_BINARY = "application/octet-stream"

router = APIRouter(prefix=PREFIX)

_INFER: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        200: {
            "description": f"Output tensors; with binary data behind the JSON, {HEADER_LENGTH} says where",
            "model": InferAnswer,
            "content": {_BINARY: {"schema": {"type": "string", "format": "binary"}}},
        },
        **problem_responses(
            WrongRequest,
            problems.TooManyRows,
            problems.EmptyPicture,
            UnknownModel,
            UnknownVersion,
            BodyTimeout,
            problems.VersionNotLoaded,
            PayloadTooLarge,
            problems.PictureTooLarge,
            UnknownEncoding,
            problems.NotAPicture,
            problems.TruncatedPicture,
            problems.FixedSuppression,
            QueueFull,
            TooManyStreams,
            problems.InferenceFailed,
            problems.ModelNotReady,
            problems.Draining,
            problems.QueueDeadlineExceeded,
            problems.ComputeDeadlineExceeded,
            form=ERROR_FORM,
        ),
    },
    "openapi_extra": {
        **body_of(InferRequest, required=True),
        "parameters": [
            {
                "name": HEADER_LENGTH,
                "in": "header",
                "required": False,
                "description": "Bytes of the JSON object in front of binary data, counted after "
                "decompression; 0: the whole body is the one input.",
                "schema": {"type": "integer", "minimum": 0},
            }
        ],
    },
}


@router.post("/models/{model}/infer", summary="Run a model", **_INFER)
async def infer(model: str, request: Request) -> Response:
    return await _infer(request, model, None)


@router.post(
    "/models/{model}/versions/{version}/infer",
    summary="Run a loaded version; `version` is a number or an alias",
    **_INFER,
)
async def infer_with_version(model: str, version: str, request: Request) -> Response:
    return await _infer(request, model, version)


async def _infer(request: Request, model: str, version: str | None) -> Response:
    detector = detector_of(request)
    coding = request.headers.get("content-encoding")
    encoded = encoding.is_encoded(coding)
    with admitted(request, model, version) as hold_more:
        body = await request.body()
        if encoded:
            # In a thread, however small it is: it may grow to the limit.
            limit = detector.settings.max_body_bytes
            body = await asyncio.to_thread(encoding.decompress, body, str(coding), limit)
            hold_more(len(body))
        return await _answer(request, detector, model, version, body)


async def _answer(
    request: Request, detector: Detector, model: str, version: str | None, body: bytes
) -> Response:
    json_bytes = header_length(request.headers.get(HEADER_LENGTH), len(body))
    with detector.registry.lease(model, version) as loaded:
        asked = read_raw_request(body, loaded.manifest) if json_bytes == 0 else read_request(body, json_bytes)
        if asked.sequence and loaded.manifest.states:
            advance = detector.sequences.infer(loaded, version, asked, wait_s=detector.settings.deadline_s)
            used, inference = await unless_client_gone(request, advance)
        else:
            works = plan(loaded, asked, detector.settings)
            asked = replace(asked, inputs=())  # lists of JSON take many times the room of their arrays
            used, inference = (
                loaded,
                await unless_client_gone(request, run(loaded, asked, works, detector.settings)),
            )
        answer = write_answer(asked, used.name, used.version, inference.tensors)
    coding = encoding.accepted(request.headers.get("accept-encoding"))
    return await _response(answer, coding, {"Server-Timing": server_timing(inference.timing)})


async def _response(answer: AnswerBody, coding: str | None, headers: dict[str, str]) -> Response:
    if answer.json_bytes is not None:
        headers[HEADER_LENGTH] = str(answer.json_bytes)
    content = answer.content
    if coding is not None:
        headers["Content-Encoding"] = coding
        if len(content) < _LARGE_BYTES:
            content = encoding.compress(content, coding)
        else:
            content = await asyncio.to_thread(encoding.compress, content, coding)
    media_type = "application/json" if answer.json_bytes is None else _BINARY
    return Response(content, media_type=media_type, headers=headers)
