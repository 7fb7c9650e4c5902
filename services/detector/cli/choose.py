"""From what the user named, NAME[:VERSION|ALIAS] here or on a server, to something that predicts."""

import difflib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NoReturn
from urllib.parse import quote

import httpx
from httpx import URL, InvalidURL

from services.detector.cli.detections import RemoteDetections
from services.detector.cli.labels import RemoteLabels
from services.detector.cli.local import LocalPredictor
from services.detector.cli.predictors import Asked, Predictor, UnsupportedAnswer
from services.detector.cli.remote import Answers, RemotePredictor
from services.detector.dataplane.session import UnusableGraph
from services.detector.settings import DetectorSettings
from shared.cli.client import api_client, explained, fail_with_problem
from shared.cli.console import ExitCode, fail
from shared.core.problems import NotFound, Problem, UnprocessableContent
from shared.core.settings import CommonSettings
from shared.repository.problems import UnknownModel
from shared.repository.repository import ModelRepository

SERVER_CONCURRENCY = 4
# Longer than a detector lets a picture wait and compute by default, 10 s and 30 s.
SERVER_TIMEOUT_S = 60.0
_VIEW_PAUSE_S = 0.5  # between looks at a model that is being loaded
_ANSWERS: Mapping[str, Callable[[Asked], Answers]] = MappingProxyType(
    {"detection": RemoteDetections, "classification": RemoteLabels}
)


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which model was named, where it is, and what is asked of it."""

    model: str
    server: str | None
    repository: Path | None
    asked: Asked
    workers: int | None
    deadline_s: float

    @property
    def name(self) -> str:
        return self.model.partition(":")[0]

    @property
    def version(self) -> str | None:
        return self.model.partition(":")[2] or None


def open_predictor(choice: ModelChoice, settings: CommonSettings) -> Predictor:
    """Return what predicts; leaves the command with a message where the model or server is not there."""
    return _open_local(choice, settings) if choice.server is None else _open_remote(choice, settings)


def _open_local(choice: ModelChoice, settings: CommonSettings) -> LocalPredictor:
    root = choice.repository or settings.repository_root
    assert root is not None  # CommonSettings fills it in
    repository = ModelRepository(root)
    try:
        if not repository.models():
            fail(
                f"there is no model in {repository.root}",
                hint="export one with `sightline export`, or give --repository or --server",
                code=ExitCode.NOT_FOUND,
            )
        version = repository.resolve(choice.name, choice.version)
        return LocalPredictor(
            repository, choice.name, version, choice.asked, DetectorSettings(), concurrency=choice.workers
        )
    except UnsupportedAnswer as error:
        fail(str(error), code=ExitCode.USAGE)
    except UnknownModel as error:
        _fail_unknown_model(error.detail, choice.name, repository.models())
    except NotFound as error:
        fail(error.detail, code=ExitCode.NOT_FOUND)
    except Problem as error:
        fail(
            error.detail, code=ExitCode.USAGE if isinstance(error, UnprocessableContent) else ExitCode.FAILURE
        )
    except UnusableGraph as error:
        fail(str(error))


def _open_remote(choice: ModelChoice, settings: CommonSettings) -> RemotePredictor:
    assert choice.server is not None
    client = api_client(settings, _checked_address(choice.server), timeout_s=SERVER_TIMEOUT_S)
    view = _view(client, choice)
    try:
        answers = _ANSWERS[_task(client, choice, view)](choice.asked)
    except UnsupportedAnswer as error:
        fail(str(error), code=ExitCode.USAGE)
    return RemotePredictor(
        client,
        choice.name,
        choice.version,
        answers,
        concurrency=choice.workers or SERVER_CONCURRENCY,
        deadline_s=choice.deadline_s,
    )


def _view(client: httpx.Client, choice: ModelChoice) -> dict[str, Any]:
    """Return what the server says of the model, once a version of it can answer."""
    give_up_at = time.monotonic() + choice.deadline_s
    while True:
        view = _get(client, f"/v1/models/{quote(choice.name, safe='')}")
        if choice.version is not None:
            _check_version_is_loaded(choice, view)
            return view
        if view["task"] is not None:
            return view
        if time.monotonic() > give_up_at:
            why = "; ".join(view["problems"]) or f"it is {view['state']}"
            fail(f"{choice.name} has no version that can answer: {why}", code=ExitCode.UNAVAILABLE)
        time.sleep(_VIEW_PAUSE_S)


def _task(client: httpx.Client, choice: ModelChoice, view: dict[str, Any]) -> str:
    if choice.version is None:
        return str(view["task"])
    name, version = quote(choice.name, safe=""), quote(choice.version, safe="")
    return str(_get(client, f"/v1/models/{name}/versions/{version}/manifest")["task"])


def _get(client: httpx.Client, path: str) -> dict[str, Any]:
    with explained("detector"):
        response = client.get(path)
    if response.is_error:
        fail_with_problem(response)
    document: dict[str, Any] = response.json()
    return document


def _checked_address(server: str) -> str:
    try:
        url = URL(server)
    except InvalidURL as error:
        fail(f"--server {server!r} is no address: {error}", code=ExitCode.USAGE)
    if url.scheme not in ("http", "https") or not url.host:
        fail(
            f"--server {server!r} is no address of a server",
            hint="write it as http://127.0.0.1:8100",
            code=ExitCode.USAGE,
        )
    return server


def _check_version_is_loaded(choice: ModelChoice, view: dict[str, Any]) -> None:
    asked = choice.version or ""
    version = int(asked) if asked.isascii() and asked.isdecimal() else view["aliases"].get(asked)
    if version not in view["loaded"]:
        loaded = ", ".join(map(str, view["loaded"])) or "none"
        aliases = ", ".join(f"{alias} = {number}" for alias, number in sorted(view["aliases"].items()))
        fail(
            f"the detector has no version {asked!r} of {choice.name} loaded; loaded: {loaded}; "
            f"aliases: {aliases or 'none'}",
            hint="add its alias to SIGHTLINE_DETECTOR_ALIASES there, or leave out --server to run it here",
            code=ExitCode.NOT_FOUND,
        )


def _fail_unknown_model(detail: str, name: str, known: list[str]) -> NoReturn:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else None
    fail(detail, hint=hint, code=ExitCode.NOT_FOUND)
