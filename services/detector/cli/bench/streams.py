"""Whether many streams at once say what each recording says alone, and how fast that goes."""

import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from typing import Any

from services.detector.cli.bench.client import Unanswered, document
from services.detector.cli.bench.load import (
    HOST,
    Connection,
    exchange,
    get_bytes,
    request_bytes,
)
from services.detector.cli.bench.stream_recordings import Piece
from shared.vision.boxes import Detections

TOLERANCE_PX = 1e-4
TOLERANCE_SCORE = 1e-4
CONTENT_TYPE = "application/vnd.sightline.events"
SHOWN = 5
_CORNERS = ("x1", "y1", "x2", "y2")

Window = dict[str, Any]  # as the server answers it


@dataclass(frozen=True, slots=True)
class StreamsPlan:
    """`clients` connections feed the streams, each its own share of them, in an order drawn by `seed`.

    repeats: the share of chunks that are sent twice, as a client does that has missed an answer.
    """

    model: str
    clients: int = 16
    seed: int = 0
    repeats: float = 0.05
    deadline_s: float = 600.0


@dataclass(slots=True)
class Fed:
    """What came back. windows: the answers of each stream, in their order."""

    windows: list[list[Window]]
    chunks: int = 0
    repeated: int = 0
    refused: int = 0  # 429 and 503, sent again later
    wall_s: float = 0.0


@dataclass(slots=True)
class Comparison:
    """Of all streams; `wrong` holds what was wrong, by stream and window."""

    windows: int = 0
    detections: int = 0
    distinct: int = 0  # streams whose answers alone are not those of another: else none could be exchanged
    largest_box_difference_px: float = 0.0
    largest_score_difference: float = 0.0
    wrong: dict[str, str] = field(default_factory=dict)


def feed(port: int, plan: StreamsPlan, recordings: list[list[Piece]]) -> Fed:
    """Send all recordings at once, one stream each. Raises Unanswered."""
    try:
        return asyncio.run(_feed(port, plan, recordings))
    except TimeoutError as error:
        raise Unanswered(f"the streams were not through after {plan.deadline_s:g} s") from error
    except (OSError, EOFError, ValueError) as error:
        raise Unanswered(f"a connection failed: {type(error).__name__}: {error}") from error


async def _feed(port: int, plan: StreamsPlan, recordings: list[list[Piece]]) -> Fed:
    fed = Fed([[] for _ in recordings])
    clients = min(plan.clients, len(recordings))
    shares = [list(range(client, len(recordings), clients)) for client in range(clients)]
    async with asyncio.timeout(plan.deadline_s):
        connections = [await asyncio.open_connection(HOST, port) for _ in shares]
        workers = [
            _Client(port, plan, connection, share, fed, plan.seed + number)
            for number, (share, connection) in enumerate(zip(shares, connections, strict=True))
        ]
        try:
            for worker in workers:
                await worker.open_all()
            started = time.perf_counter()
            await asyncio.gather(*(worker.feed_all(recordings) for worker in workers))
            fed.wall_s = time.perf_counter() - started
        finally:
            for _, writer in connections:
                writer.close()
    return fed


class _Client:
    """One connection that feeds several streams, whichever chance says next."""

    def __init__(
        self, port: int, plan: StreamsPlan, connection: Connection, share: list[int], fed: Fed, seed: int
    ) -> None:
        self._port = port
        self._plan = plan
        self._connection = connection
        self._share = share
        self._fed = fed
        self._draw = random.Random(seed)  # noqa: S311 - not for secrets
        self._ids: dict[int, str] = {}

    async def open_all(self) -> None:
        for number in self._share:
            opened = await self._ask(f"/v1/models/{self._plan.model}/streams", b'{"start_us": 0}')
            self._ids[number] = opened["id"]

    async def feed_all(self, recordings: list[list[Piece]]) -> None:
        sent = dict.fromkeys(self._share, 0)
        while open_ones := [number for number in self._share if sent[number] < len(recordings[number])]:
            number = self._draw.choice(open_ones)
            sequence, piece = sent[number], recordings[number][sent[number]]
            until = "" if piece.until_us is None else f"&until_us={piece.until_us}"
            target = f"/v1/streams/{self._ids[number]}/chunks?sequence={sequence}{until}"
            answer = await self._ask(target, piece.body)
            if self._draw.random() < self._plan.repeats:
                self._fed.repeated += 1
                if await self._ask(target, piece.body) != answer:
                    raise Unanswered(f"chunk {sequence} of stream {number} was answered otherwise again")
            sent[number] += 1
            self._fed.chunks += 1
            self._fed.windows[number] += answer["windows"]

    async def _ask(self, target: str, body: bytes) -> dict[str, Any]:
        """Return the JSON of an answer; what is refused for now is sent again, as long as the plan lasts."""
        while True:
            answer = await exchange(self._connection, request_bytes(self._port, target, body, CONTENT_TYPE))
            if answer.status not in (429, 503):
                return document(answer, expected=(200, 201))
            self._fed.refused += 1
            await asyncio.sleep(float(answer.headers.get("retry-after", 1)))


def batch_sizes(port: int, model: str) -> dict[int, int]:
    """Return how many runs of each batch size there were since the server started."""

    async def ask() -> bytes:
        connection = await asyncio.open_connection(HOST, port)
        try:
            answer = await exchange(connection, get_bytes(port, f"/v2/models/{model}/stats"))
            return answer.body
        finally:
            connection[1].close()

    (stats,) = json.loads(asyncio.run(ask()))["model_stats"]
    return {each["batch_size"]: each["compute_infer"]["count"] for each in stats["batch_stats"]}


def compare(alone: list[list[Detections]], fed: list[list[Window]]) -> Comparison:
    """Compare every window of every stream with the same one run alone: labels, then boxes and scores."""
    outcome = Comparison(distinct=len({_kind(each) for each in alone}))
    for number, (expected, windows) in enumerate(zip(alone, fed, strict=True)):
        indices = [window["index"] for window in windows]
        if indices != list(range(len(expected))):
            outcome.wrong[f"stream {number}"] = f"windows {indices[:10]}… of {len(expected)}"
            continue
        for wanted, window in zip(expected, windows, strict=True):
            problem = _compare_one(wanted, window["detections"], outcome)
            if problem is not None:
                outcome.wrong[f"stream {number}, window {window['index']}"] = problem
    return outcome


def _kind(stream: list[Detections]) -> bytes:
    parts = (each for window in stream for each in (window.boxes, window.scores, window.labels))
    return b"|".join(part.tobytes() for part in parts)


def _compare_one(wanted: Detections, found: list[dict[str, Any]], outcome: Comparison) -> str | None:
    outcome.windows += 1
    outcome.detections += len(wanted)
    labels = [each["label_id"] for each in found]
    if labels != wanted.labels.tolist():
        return f"{len(found)} detections, alone {len(wanted)}, or other labels"
    rows = list(zip(found, wanted.boxes.tolist(), wanted.scores.tolist(), strict=True))
    boxes = [
        abs(each["box"][corner] - value)
        for each, box, _ in rows
        for corner, value in zip(_CORNERS, box, strict=True)
    ]
    scores = [abs(each["score"] - score) for each, _, score in rows]
    off_px, off = max(boxes, default=0.0), max(scores, default=0.0)
    outcome.largest_box_difference_px = max(outcome.largest_box_difference_px, off_px)
    outcome.largest_score_difference = max(outcome.largest_score_difference, off)
    if off > TOLERANCE_SCORE or off_px > TOLERANCE_PX:
        return f"a box is {off_px:.6f} px off, a score {off:.6f}"
    return None
