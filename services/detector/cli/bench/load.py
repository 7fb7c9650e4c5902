"""A lean HTTP load generator: keep-alive connections that each wait for an answer before the next picture.

Runs as a process of its own (`python -m services.detector.cli.bench.load HOST PORT TARGET FOLDER`), so that
its CPU time is not the server's. Reads one JSON command per line, {"concurrency", "count"}, and answers each
with one line: {"latencies_ms": [...], "wall_s": ..., "statuses": {"200": ...}}.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import uvloop

from services.detector.cli.bench.pictures import read_pictures

ANSWER_DEADLINE_S = 60.0


def request_bytes(host: str, port: int, target: str, body: bytes) -> bytes:
    """Return a whole HTTP/1.1 POST request, head and body."""
    head = (
        f"POST {target} HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: application/json\r\n"
        f"Content-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one answer with a Content-Length; return its status and body. Raises ValueError without one."""
    head = await reader.readuntil(b"\r\n\r\n")
    status_line, *fields = head.split(b"\r\n")
    lengths = [field for field in fields if field[:15].lower() == b"content-length:"]
    if not lengths:
        raise ValueError(f"answer without Content-Length: {status_line!r}")
    body = await reader.readexactly(int(lengths[0][15:]))
    return int(status_line.split(b" ", 2)[1]), body


async def send_all(host: str, port: int, requests: Iterator[bytes], concurrency: int) -> dict[str, Any]:
    """Send every request over `concurrency` connections; return latencies, wall time and statuses."""
    connections = [await asyncio.open_connection(host, port) for _ in range(concurrency)]
    latencies_ms: list[float] = []
    statuses: Counter[str] = Counter()

    async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for request in requests:
            sent = time.perf_counter()
            writer.write(request)
            status, _ = await asyncio.wait_for(read_answer(reader), ANSWER_DEADLINE_S)
            latencies_ms.append((time.perf_counter() - sent) * 1000)
            statuses[str(status)] += 1

    started = time.perf_counter()
    try:
        await asyncio.gather(*(work(reader, writer) for reader, writer in connections))
        wall_s = time.perf_counter() - started
    finally:
        for _, writer in connections:
            writer.close()
    return {"latencies_ms": latencies_ms, "wall_s": wall_s, "statuses": dict(statuses)}


def main(host: str, port: int, target: str, folder: Path) -> None:
    """Answer commands from standard input until it closes."""
    pictures = [request_bytes(host, port, target, data) for data in read_pictures(folder)]
    for line in sys.stdin:
        command = json.loads(line)
        requests = islice(cycle(pictures), command["count"])
        answer = uvloop.run(send_all(host, port, requests, command["concurrency"]))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
