"""What can be wrong with a request of the protocol, and how the protocol says so: `{"error": "…"}`."""

from typing import Any

from services.detector.oip.schemas import ErrorAnswer
from shared.core.http import ErrorForm
from shared.core.problems import BadRequest, Problem, UnsupportedMediaType

PREFIX = "/v2"


class WrongRequest(BadRequest):
    code, title = "wrong_inference_request", "Not a request that this model can answer"


class UnknownEncoding(UnsupportedMediaType):
    code, title = "unknown_encoding", "Content-Encoding is not gzip or deflate"


def _document(_path: str, _request_id: str, problem: Problem) -> dict[str, Any]:
    return {"error": problem.detail}


ERROR_FORM = ErrorForm(PREFIX, "application/json", _document, ErrorAnswer)
