"""LitServe by its documentation: `workers_per_device` copies of the model, one per core.

https://lightning.ai/docs/litserve/features/autoscaling. Batching is left off: it gains nothing on a CPU.
One API server process: a second one takes from the cores that compute. LitServe would parse the body as JSON;
a FastAPI dependency takes it raw, so that no picture has to be base64. The bytes pass to the workers and the
finished JSON comes back, so that the queues carry as little as possible.
"""

from typing import Annotated

import litserve as ls
from fastapi import Depends, Request, Response

from services.detector.cli.bench.peers.detection import Detector, own_port, own_threads


async def raw_body(request: Request) -> bytes:
    return await request.body()


class DetectAPI(ls.LitAPI):
    def setup(self, device: str) -> None:
        self.detector = Detector.of_this_process()

    def decode_request(self, request: Annotated[bytes, Depends(raw_body)]) -> bytes:
        return request

    def predict(self, data: bytes) -> bytes:
        return self.detector.answer_bytes(data)

    def encode_response(self, output: bytes) -> Response:
        return Response(output, media_type="application/json")


if __name__ == "__main__":
    server = ls.LitServer(
        DetectAPI(api_path="/detect"),
        accelerator="cpu",
        devices=1,
        workers_per_device=own_threads(),
        fast_queue=True,
    )
    server.run(
        host="127.0.0.1",
        port=own_port(),
        num_api_servers=1,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
    )
