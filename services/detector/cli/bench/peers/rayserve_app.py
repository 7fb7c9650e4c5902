"""Ray Serve by its performance guide: one replica per core, each with a session of one intra-op thread.

https://docs.ray.io/en/latest/serve/advanced-guides/performance.html: RAY_SERVE_THROUGHPUT_OPTIMIZED=1, which
among other things runs requests without a thread of their own and buffers its log; access log off;
`max_ongoing_requests` high enough that a replica never waits for its next picture. Batching is left off: it
gains nothing on a CPU. The dashboard and usage reports are off.
"""

import asyncio
import os
import signal
import threading

from services.detector.cli.bench.peers.detection import Detector, own_port, own_threads

os.environ.setdefault("RAY_SERVE_THROUGHPUT_OPTIMIZED", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig
from starlette.requests import Request
from starlette.responses import Response


class Detect:
    def __init__(self) -> None:
        self.detector = Detector.of_this_process()

    async def __call__(self, request: Request) -> Response:
        if request.method == "GET":
            return Response()
        data = await request.body()
        answer = await asyncio.to_thread(self.detector.answer_bytes, data)
        return Response(answer, media_type="application/json")


def main() -> None:
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ray.init(
        include_dashboard=False, log_to_driver=False, configure_logging=False, _node_ip_address="127.0.0.1"
    )
    serve.start(
        http_options=HTTPOptions(host="127.0.0.1", port=own_port()),
        logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
    )
    deployment = serve.deployment(
        num_replicas=own_threads(), max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.1}
    )
    serve.run(deployment(Detect).bind(), name="detect", route_prefix="/")
    ended.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
