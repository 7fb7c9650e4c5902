"""FastAPI as someone who knows it would serve a model: the least that this framework can cost.

One process with uvloop and httptools. The body is read raw, the work runs on as many threads as the machine
has cores, all over one ONNX Runtime session with one intra-op thread each, and the answer is written without
a response model. No metrics, no validation, no deadlines, no batching: those are what the detector adds.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import uvicorn
from fastapi import FastAPI, Request, Response

from services.detector.cli.bench.peers.detection import Detector, own_port, own_threads

app = FastAPI(openapi_url=None)
detector = Detector.of_this_process()
pool = ThreadPoolExecutor(own_threads())


@app.get("/health")
async def health() -> Response:
    return Response()


@app.post("/detect")
async def detect(request: Request) -> Response:
    data = await request.body()
    answer = await asyncio.get_running_loop().run_in_executor(pool, detector.answer_bytes, data)
    return Response(answer, media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=own_port(), access_log=False, log_level="warning")
