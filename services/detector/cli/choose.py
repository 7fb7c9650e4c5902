"""From what the user named, NAME[:VERSION|ALIAS] here or on a server, to something that predicts."""

import difflib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol
from urllib.parse import quote

import httpx
from httpx import URL, InvalidURL

from services.detector.cli.annotate import PictureAnnotator, SourceResult, Wanted
from services.detector.cli.detections import RemoteDetections
from services.detector.cli.labels import RemoteLabels
from services.detector.cli.local import LocalPredictor
from services.detector.cli.predictors import Asked, Predictor, UnsupportedAnswer
from services.detector.cli.remote import Answers, PatientClient, RemotePredictor
from services.detector.cli.report import RunProgress
from services.detector.cli.sources import Kind, Source, SourceProblem
from services.detector.dataplane.session import UnusableGraph
from services.detector.settings import DetectorSettings
from shared.cli.client import api_client, explained, fail_with_problem
from shared.cli.console import ExitCode, fail
from shared.core.problems import NotFound, Problem, UnprocessableContent
from shared.core.settings import CommonSettings
from shared.repository.manifest import Manifest
from shared.repository.problems import UnknownModel
from shared.repository.repository import ModelRepository

if TYPE_CHECKING:
    from services.detector.cli.streams import StreamPredictor

SERVER_CONCURRENCY = 4
# Longer than a detector lets a picture wait and compute by default, 10 s and 30 s.
SERVER_TIMEOUT_S = 60.0
_VIEW_PAUSE_S = 0.5  # between looks at a model that is being loaded


class Annotator(Protocol):
    """Predicts on every source of the kinds it `takes`, and writes the results."""

    takes: frozenset[Kind]

    @property
    def predictor(self) -> "Predictor | StreamPredictor": ...

    def annotate(
        self, sources: Sequence[Source], folder: Path, wanted: Wanted, progress: RunProgress
    ) -> Iterator[SourceResult | SourceProblem]:
        """Yield one result per source, each already written below `folder`."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """Which model was named, where it is, and what is asked of it. sensor: (height, width) of recordings."""

    model: str
    server: str | None
    repository: Path | None
    asked: Asked
    workers: int | None
    deadline_s: float
    sensor: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        return self.model.partition(":")[0]

    @property
    def version(self) -> str | None:
        return self.model.partition(":")[2] or None


def open_annotator(choice: ModelChoice, settings: CommonSettings) -> Annotator:
    """Return what predicts, for what the model's task takes.

    Leaves the command with a message where the model or the server is not there.
    """
    return _open_local(choice, settings) if choice.server is None else _open_remote(choice, settings)


def _open_local(choice: ModelChoice, settings: CommonSettings) -> Annotator:
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
        manifest = repository.verify(choice.name, version)
        return _HERE[manifest.task](repository, manifest, choice)
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


def _pictures_here(repository: ModelRepository, manifest: Manifest, choice: ModelChoice) -> Annotator:
    settings = DetectorSettings()
    return PictureAnnotator(
        LocalPredictor(repository, manifest, choice.asked, settings, concurrency=choice.workers)
    )


def _recordings_here(repository: ModelRepository, manifest: Manifest, choice: ModelChoice) -> Annotator:
    from services.detector.cli.local_streams import LocalStreamPredictor

    settings = DetectorSettings()
    predictor = LocalStreamPredictor(repository, manifest, choice.asked, settings, threads=choice.workers)
    return _of_recordings(predictor, choice)


def _of_recordings(predictor: "StreamPredictor", choice: ModelChoice) -> Annotator:
    try:
        # Here, for it loads HDF5, which a machine that only serves does not have.
        from services.detector.cli.recordings import RecordingAnnotator
    except ModuleNotFoundError as error:
        fail(
            f"recordings need the Python package {error.name!r}, which is not installed here",
            hint="pip install 'sightline[all]'",
            code=ExitCode.UNAVAILABLE,
        )
    return RecordingAnnotator(predictor, choice.sensor)


_HERE: Mapping[str, Callable[[ModelRepository, Manifest, ModelChoice], Annotator]] = MappingProxyType(
    {
        "detection": _pictures_here,
        "classification": _pictures_here,
        "stream_detection": _recordings_here,
    }
)


def _open_remote(choice: ModelChoice, settings: CommonSettings) -> Annotator:
    assert choice.server is not None
    client = api_client(settings, _checked_address(choice.server), timeout_s=SERVER_TIMEOUT_S)
    view = _view(client, choice)
    try:
        return _THERE[_task(client, choice, view)](client, choice, view)
    except UnsupportedAnswer as error:
        fail(str(error), code=ExitCode.USAGE)


def _detections_there(client: httpx.Client, choice: ModelChoice, view: dict[str, Any]) -> Annotator:
    return _pictures_there(client, choice, RemoteDetections(choice.asked))


def _labels_there(client: httpx.Client, choice: ModelChoice, view: dict[str, Any]) -> Annotator:
    return _pictures_there(client, choice, RemoteLabels(choice.asked))


def _pictures_there(client: httpx.Client, choice: ModelChoice, answers: Answers) -> Annotator:
    return PictureAnnotator(
        RemotePredictor(
            PatientClient(client, choice.deadline_s),
            choice.name,
            choice.version,
            answers,
            concurrency=choice.workers or SERVER_CONCURRENCY,
        )
    )


def _recordings_there(client: httpx.Client, choice: ModelChoice, view: dict[str, Any]) -> Annotator:
    from services.detector.cli.remote_streams import RemoteStreamPredictor

    manifest = _manifest(client, choice, choice.version or str(view["version"]))
    predictor = RemoteStreamPredictor(
        PatientClient(client, choice.deadline_s), choice.name, choice.version, manifest, choice.asked
    )
    return _of_recordings(predictor, choice)


_THERE: Mapping[str, Callable[[httpx.Client, ModelChoice, dict[str, Any]], Annotator]] = MappingProxyType(
    {
        "detection": _detections_there,
        "classification": _labels_there,
        "stream_detection": _recordings_there,
    }
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
    return str(_manifest(client, choice, choice.version)["task"])


def _manifest(client: httpx.Client, choice: ModelChoice, version: str) -> dict[str, Any]:
    name, version = quote(choice.name, safe=""), quote(version, safe="")
    return _get(client, f"/v1/models/{name}/versions/{version}/manifest")


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
