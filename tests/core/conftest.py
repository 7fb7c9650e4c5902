import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel

from shared.core.http import ErrorForm, create_service
from shared.core.problems import NotFound, QueueFull
from shared.core.settings import CommonSettings

BODY_LIMIT_BYTES = 1000
router = APIRouter(prefix="/v1")


class Numbers(BaseModel):
    value: int


@router.post("/bytes/{name}")
async def count_bytes(name: str, request: Request) -> dict[str, int]:
    return {"bytes": len(await request.body())}


@router.post("/numbers")
async def numbers(body: Numbers) -> Numbers:
    return body


@router.get("/missing")
async def missing() -> None:
    raise NotFound("no model 'zebra'", nearest="person")


@router.get("/full")
async def full() -> None:
    raise QueueFull("64 requests wait already", retry_after_s=1.2)


@router.get("/broken")
async def broken() -> None:
    raise KeyError("a secret that callers must not see")


@router.get("/slow")
async def slow(seconds: float) -> dict[str, bool]:
    await asyncio.sleep(seconds)
    return {"done": True}


def make_app(
    settings: CommonSettings | None = None,
    body_timeout_s: float = 1.0,
    error_forms: Sequence[ErrorForm] = (),
) -> FastAPI:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    return create_service(
        name="sample",
        title="Sample",
        settings=settings or CommonSettings(),
        lifespan=lifespan,
        routers=[router],
        ready=lambda app: list(getattr(app.state, "reasons", [])),
        max_body_bytes=BODY_LIMIT_BYTES,
        body_timeout_s=body_timeout_s,
        error_forms=error_forms,
    )


@pytest.fixture
def app() -> FastAPI:
    return make_app()
