"""A lean HTTP load generator, so that measuring takes little from what is measured.

Runs as a process of its own (`python -m services.detector.cli.bench.load FOLDER`), whose CPU time counts for
nobody. Reads one JSON command per line and answers each with one line. Every command has "port", "target" and
"protocol" (`picture`: the JPEG is the body; `v2`: it is inside a JSON request), and

- {"concurrency", "seconds"}: closed loop, each connection waits for its answer before the next picture ->
  {"latencies_ms", "answered", "statuses", "failures", "wall_s"}
- {"rate", "seconds", "connections"}: open loop, pictures are sent when they are due whatever became of the
  others -> {"requests": [[sent_s, latency_ms, status, retry_after], ...], "failures", "unsent", "lag_ms"}
- {"bodies": true}: every picture once -> {"bodies": [...]}

A server that cannot be reached, or answers what is no HTTP, is {"error": what was wrong}.
"""

import asyncio
import base64
import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import uvloop

from services.detector.cli.bench.pictures import read_pictures

HOST = "127.0.0.1"
ANSWER_DEADLINE_S = 60.0
LEAST_TURNS = 2  # answers that every connection gets at least, however short the time
LONGEST = 6.0  # times the time asked for: then a closed loop ends even so
BACK_OFF_S = 0.05  # after a refusal, as no client would ask again at once

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]  # names in lower case
    body: bytes


def request_bytes(port: int, target: str, body: bytes, content_type: str = "image/jpeg") -> bytes:
    """Return a whole HTTP/1.1 POST request, head and body."""
    head = (
        f"POST {target} HTTP/1.1\r\nHost: {HOST}:{port}\r\nAccept: application/json\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def get_bytes(port: int, target: str) -> bytes:
    """Return a whole HTTP/1.1 GET request."""
    return f"GET {target} HTTP/1.1\r\nHost: {HOST}:{port}\r\nAccept: application/json\r\n\r\n".encode("ascii")


def picture_request(port: int, target: str, protocol: str, picture: bytes) -> bytes:
    """Return the request that carries `picture` in this protocol."""
    if protocol == "picture":
        return request_bytes(port, target, picture)
    encoded = base64.b64encode(picture).decode()
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [encoded]}
    return request_bytes(port, target, json.dumps({"inputs": [tensor]}).encode(), "application/json")


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Read one answer, of known length or in chunks. Raises ValueError where it says neither."""
    head = await reader.readuntil(b"\r\n\r\n")
    status_line, *fields = head[:-4].split(b"\r\n")
    headers = {}
    for field in fields:
        name, _, value = field.partition(b":")
        headers[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    else:
        raise ValueError(f"answer with neither Content-Length nor chunks: {status_line!r}")
    return Answer(int(status_line.split(b" ", 2)[1]), headers, body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += (await reader.readexactly(size + 2))[:-2]
    while (await reader.readuntil(b"\r\n")) != b"\r\n":
        pass  # trailers
    return body


async def exchange(connection: Connection, request: bytes) -> Answer:
    """Send a request and return its answer. Raises OSError, EOFError, TimeoutError or ValueError."""
    reader, writer = connection
    writer.write(request)
    return await asyncio.wait_for(read_answer(reader), ANSWER_DEADLINE_S)


async def closed_loop(
    port: int, requests: Iterator[bytes], concurrency: int, seconds: float
) -> dict[str, Any]:
    """Keep `concurrency` requests in flight for `seconds`, and until each connection had LEAST_TURNS answers.

    The first answer of each connection is left out of the latencies: then the queue was still short.
    A connection that breaks is a failure; it is opened again.
    """
    latencies_ms: list[float] = []
    statuses: Counter[str] = Counter()
    failures, turns_left = 0, LEAST_TURNS * concurrency

    async def work(connection: Connection) -> None:
        nonlocal failures, turns_left
        first = True
        try:
            while (now := time.perf_counter()) < longest and (now < end or turns_left > 0):
                turns_left -= 1
                try:
                    answer = await exchange(connection, next(requests))
                except (OSError, EOFError, TimeoutError, ValueError):
                    failures += 1
                    connection[1].close()
                    await asyncio.sleep(BACK_OFF_S)
                    with contextlib.suppress(OSError):  # the next turn counts that it is still not there
                        connection = await asyncio.open_connection(HOST, port)
                    continue
                statuses[str(answer.status)] += 1
                if answer.status != 200:
                    await asyncio.sleep(BACK_OFF_S)
                elif not first:
                    latencies_ms.append((time.perf_counter() - now) * 1000)
                first = False
        finally:
            connection[1].close()

    connections = [await asyncio.open_connection(HOST, port) for _ in range(concurrency)]
    started = time.perf_counter()
    end, longest = started + seconds, started + seconds * LONGEST
    await asyncio.gather(*map(work, connections))
    return {
        "latencies_ms": latencies_ms,
        "answered": statuses["200"],
        "statuses": dict(statuses),
        "failures": failures,
        "wall_s": time.perf_counter() - started,
    }


async def open_loop(
    port: int, requests: Iterator[bytes], rate: float, seconds: float, connections: int
) -> dict[str, Any]:
    """Send `rate` requests a second for `seconds`, at most `connections` of them unanswered at once.

    One that is due when none is free is not sent and counted as `unsent`. `lag_ms` is how late the sending
    was, in the median: far from 0 the generator itself was too slow to offer this rate.
    """
    free: list[Connection] = [await asyncio.open_connection(HOST, port) for _ in range(min(connections, 64))]
    opened, unsent, failures = len(free), 0, 0
    answers: list[tuple[float, float, int, str | None]] = []
    lags: list[float] = []
    tasks: set[asyncio.Task[None]] = set()
    started = time.perf_counter()

    async def send(connection: Connection | None) -> None:
        nonlocal failures, opened
        sent = time.perf_counter()
        try:
            if connection is None:
                connection = await asyncio.open_connection(HOST, port)
            answer = await exchange(connection, next(requests))
        except (OSError, EOFError, TimeoutError, ValueError):
            failures += 1
            opened -= 1
            if connection is not None:
                connection[1].close()
            return
        latency_ms = (time.perf_counter() - sent) * 1000
        answers.append((sent - started, latency_ms, answer.status, answer.headers.get("retry-after")))
        free.append(connection)

    for number in range(int(rate * seconds)):
        due = started + number / rate
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        lags.append(max(0.0, time.perf_counter() - due) * 1000)
        if not free and opened >= connections:
            unsent += 1
            continue
        opened += not free
        task = asyncio.create_task(send(free.pop() if free else None))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    offered_s = time.perf_counter() - started
    await asyncio.gather(*tasks)
    for _, writer in free:
        writer.close()
    return {
        "requests": answers,
        "failures": failures,
        "unsent": unsent,
        "lag_ms": sorted(lags)[len(lags) // 2] if lags else 0.0,
        "offered_s": offered_s,
    }


async def bodies(port: int, requests: list[bytes]) -> dict[str, Any]:
    """Send every request once and return the bodies. Raises ValueError for another status than 200."""
    connection = await asyncio.open_connection(HOST, port)
    texts = []
    for request in requests:
        answer = await exchange(connection, request)
        if answer.status != 200:
            raise ValueError(f"answer {answer.status}: {answer.body[:500]!r}")
        texts.append(answer.body.decode())
    connection[1].close()
    return {"bodies": texts}


def obey(command: dict[str, Any], pictures: list[bytes]) -> dict[str, Any]:
    """Return the answer to one command."""
    port = command["port"]
    requests = [
        picture_request(port, command["target"], command["protocol"], picture) for picture in pictures
    ]
    if "bodies" in command:
        return uvloop.run(bodies(port, requests))
    turns = cycle(requests)
    if "rate" in command:
        return uvloop.run(open_loop(port, turns, command["rate"], command["seconds"], command["connections"]))
    return uvloop.run(closed_loop(port, turns, command["concurrency"], command["seconds"]))


def main(folder: Path) -> None:
    """Answer commands from standard input until it closes."""
    pictures = read_pictures(folder)
    for line in sys.stdin:
        try:
            answer = obey(json.loads(line), pictures)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
