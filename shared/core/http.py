"""The HTTP application that every service starts from: problems, health, metrics, metadata in OpenAPI."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from shared.core.auth import KeyRing
from shared.core.problems import (
    BadRequest,
    PayloadTooLarge,
    Problem,
    StatusProblem,
    Unauthorized,
    UnprocessableContent,
)
from shared.core.request_spans import RequestSpans
from shared.core.settings import CommonSettings
from shared.core.shell import OPEN_PATHS, BodyTimeout, ClientGone, CrossSite, HttpShell
from shared.core.telemetry import http_metrics, new_registry
from shared.core.tracing import tracer_of

PROBLEM_JSON = "application/problem+json"

Ready = Callable[[FastAPI], list[str]]


class ProblemDocument(BaseModel):
    """RFC 9457 problem details; single cases add members of their own."""

    type: str = Field(examples=["urn:sightline:problem:not_found"])
    title: str = Field(examples=["Not found"])
    status: int = Field(examples=[404])
    detail: str = Field(description="What was wrong, with which value, and what to do.")
    instance: str = Field(description="Path of the request.")
    request_id: str = Field(description="The same as in the header X-Request-Id.")


def problem_document(request_path: str, request_id: str, problem: Problem) -> dict[str, Any]:
    """Return `problem` as the members of a problem document."""
    return {
        "type": problem.type,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": request_path,
        "request_id": request_id,
        **problem.extras,
    }


@dataclass(frozen=True, slots=True)
class ErrorForm:
    """What problems look like to callers of the paths below `prefix`, and what OpenAPI says of that.

    A protocol that others have laid down brings its own; everywhere else it is `PROBLEM_DETAILS`. `document`
    makes the JSON body from the path, the id of the request and the problem.
    """

    prefix: str
    media_type: str
    document: Callable[[str, str, Problem], dict[str, Any]]
    schema: type[BaseModel]

    def covers(self, path: str) -> bool:
        """Return whether `path` lies below the prefix, or is it."""
        return path == self.prefix or path.startswith(f"{self.prefix}/")


PROBLEM_DETAILS = ErrorForm("", PROBLEM_JSON, problem_document, ProblemDocument)


def problem_responses(
    *problems: type[Problem], form: ErrorForm = PROBLEM_DETAILS
) -> dict[int | str, dict[str, Any]]:
    """Return the `responses=` of a route that can answer with `problems`, for OpenAPI."""
    responses: dict[int | str, dict[str, Any]] = {}
    for problem in problems:
        # No `model`: FastAPI would describe that as application/json, which no problem document is.
        schema = {"$ref": f"#/components/schemas/{form.schema.__name__}"}
        entry = responses.setdefault(
            problem.status, {"description": "", "content": {form.media_type: {"schema": schema}}}
        )
        entry["description"] = ", ".join(filter(None, (entry["description"], problem.title)))
    return responses


class _Responder:
    """Builds the response that carries a problem, in the form that belongs to the path."""

    def __init__(self, forms: Sequence[ErrorForm]) -> None:
        self.forms = tuple(forms)

    def form(self, path: str) -> ErrorForm:
        return next((form for form in self.forms if form.covers(path)), PROBLEM_DETAILS)

    def __call__(self, request_path: str, request_id: str, problem: Problem) -> Response:
        form = self.form(request_path)
        document = form.document(request_path, request_id, problem)
        return Response(
            orjson.dumps(document, default=str),
            problem.status,
            headers=problem.headers,
            media_type=form.media_type,
        )


def create_service(
    *,
    name: str,
    title: str,
    settings: CommonSettings,
    lifespan: Callable[[FastAPI], Any],
    routers: Sequence[APIRouter],
    ready: Ready,
    max_body_bytes: int,
    body_timeout_s: float = 30.0,
    description: str = "",
    registry: CollectorRegistry | None = None,
    warnings: Ready = lambda _: [],
    error_forms: Sequence[ErrorForm] = (),
    websockets: bool = False,
) -> FastAPI:
    """Return an application with the routes in `routers` and everything that services have in common.

    `ready` returns the reasons for not being ready, an empty list when there is none; `warnings` what an
    operator should see in /readyz although requests are answered. `error_forms` are those of paths whose
    protocol has its own form of errors. `websockets` says that there are WebSockets among the routes: without
    it none gets in. `app.state` holds `registry` (Prometheus), `settings`, `draining`, which the server sets
    when it is told to stop, and for the server `websockets` and `max_body_bytes`, which bounds a message.
    """
    app = FastAPI(
        title=title,
        description=description,
        version="1",
        lifespan=lifespan,
        redoc_url=None,
        docs_url="/docs",
        # It would send a caller, key and body, where the Host header says, and to http behind a TLS proxy.
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # the shell does what we want of it
    )
    app.state.settings = settings
    app.state.registry = registry = registry or new_registry()
    app.state.draining = False
    app.state.websockets = websockets
    app.state.max_body_bytes = max_body_bytes
    app.state.respond = respond = _Responder(error_forms)
    app.openapi = partial(_openapi, app)  # type: ignore[method-assign]  # how FastAPI wants it replaced
    for router in routers:
        app.include_router(router)
    app.include_router(_operations(ready, warnings))
    app.add_exception_handler(Problem, _on_problem)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _on_validation_error)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _on_http_exception)  # type: ignore[arg-type]
    app.add_middleware(
        HttpShell,
        service=name,
        keys=KeyRing(settings.api_keys),
        metrics=http_metrics(registry),
        max_body_bytes=max_body_bytes,
        body_timeout_s=body_timeout_s,
        respond=respond,
        websockets=websockets,
    )
    if (tracer := tracer_of(name)) is not None:
        app.add_middleware(RequestSpans, tracer=tracer)
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document with the problems that routes do not state, since all can answer them."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        responder: _Responder = app.state.respond
        for form in (PROBLEM_DETAILS, *responder.forms):
            schemas[form.schema.__name__] = form.schema.model_json_schema()
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        for path, operations in document["paths"].items():
            if path not in OPEN_PATHS:
                for method, operation in operations.items():
                    _add_problems(method, operation, responder.form(path))
    return app.openapi_schema or {}


def _add_problems(method: str, operation: dict[str, Any], form: ErrorForm) -> None:
    responses = operation["responses"]
    possible: list[type[Problem]] = [Unauthorized, Problem]
    if method != "get":
        possible.append(CrossSite)
    if "requestBody" in operation:
        possible += [BadRequest, BodyTimeout, PayloadTooLarge]
    if "application/json" in responses.get("422", {}).get("content", {}):  # FastAPI's own description
        del responses["422"]
        possible.append(UnprocessableContent)
    for status, description in problem_responses(*possible, form=form).items():
        responses.setdefault(str(status), description)


def _operations(ready: Ready, warnings: Ready) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/livez", summary="Is the process alive?")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @router.get(
        "/readyz",
        summary="Can requests be answered now?",
        responses={503: {"description": "Not ready; `reasons` says why."}},
    )
    async def readyz(request: Request) -> Response:
        reasons = ready(request.app)
        if request.app.state.draining:
            reasons = ["draining: the process was told to stop", *reasons]
        body = {
            "status": "not ready" if reasons else "ready",
            "reasons": reasons,
            "warnings": warnings(request.app),
        }
        return Response(orjson.dumps(body), 503 if reasons else 200, media_type="application/json")

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    def metrics(request: Request) -> Response:
        return Response(generate_latest(request.app.state.registry), media_type=CONTENT_TYPE_LATEST)

    return router


def _respond(request: Request, problem: Problem) -> Response:
    # Not request.url: that escapes some characters and drops others, and the shell knows only the scope's.
    response: Response = request.app.state.respond(request.scope["path"], request.state.request_id, problem)
    return response


async def _on_problem(request: Request, problem: Problem) -> Response:
    return _respond(request, problem)


async def _on_validation_error(request: Request, error: RequestValidationError) -> Response:
    return _respond(request, wrong_fields(error.errors()))


def wrong_fields(errors: Sequence[Any]) -> UnprocessableContent:
    """Return the problem for what pydantic finds wrong, as its `errors()` list it."""
    fields = [
        {"field": ".".join(str(part) for part in item["loc"]), "message": item["msg"], "kind": item["type"]}
        for item in errors
    ]
    detail = "; ".join(": ".join(filter(None, (field["field"], field["message"]))) for field in fields)
    return UnprocessableContent(detail, errors=fields)


def _allowed_methods(request: Request) -> list[str]:
    """Return the methods of every operation in OpenAPI with the path of this request."""
    operations: dict[str, dict[str, Any]] = request.app.openapi()["paths"]
    return sorted(
        method.upper()
        for path, methods in operations.items()
        if compile_path(path)[0].match(request.scope["path"])
        for method in methods
    )


async def _on_http_exception(request: Request, error: HTTPException) -> Response:
    # The framework wraps what reading a body raised; the problem inside it is what the caller should see.
    if isinstance(error.__cause__, ClientGone):
        raise error.__cause__
    if isinstance(error.__cause__, Problem):
        return _respond(request, error.__cause__)
    problem = StatusProblem(error.status_code, str(error.detail), headers=dict(error.headers or {}))
    if error.status_code == 405 and (allowed := _allowed_methods(request)):
        # The router names the methods of the first route with this path and of no other.
        problem.headers = {"Allow": ", ".join(allowed)}
    if problem.detail == problem.title:  # the router's own refusals say no more than their status
        problem.detail = f"{request.method} {request.url.path}: {problem.title.lower()}; see /docs"
    return _respond(request, problem)
