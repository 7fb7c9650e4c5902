"""MLServer with a custom runtime over its V2 protocol, the picture as a base64 BYTES tensor.

https://docs.seldon.ai/mlserver/user-guide/parallel-inference: `parallel_workers` are processes for models
that hold the interpreter lock. ONNX Runtime and OpenCV release it, so threads in the server's own process do
the same without queues between processes; and the workers of 1.7.1 do not start with the current uvloop.
Adaptive batching is off, as it is by default: it gains nothing on a CPU.
"""

import asyncio
import base64
from concurrent.futures import ThreadPoolExecutor

from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

from services.detector.cli.bench.peers.detection import Detector, own_port, own_threads


class DetectModel(MLModel):
    async def load(self) -> bool:
        self.detector = Detector.of_this_process()
        self.pool = ThreadPoolExecutor(own_threads())
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        data = payload.inputs[0].data.root[0]
        answer = await asyncio.get_running_loop().run_in_executor(self.pool, self._answer, data)
        output = ResponseOutput(name="answer", shape=[1], datatype="BYTES", data=[answer])
        return InferenceResponse(model_name=self.name, outputs=[output])

    def _answer(self, encoded: str) -> str:
        return self.detector.answer_bytes(base64.b64decode(encoded)).decode()


async def main() -> None:
    settings = Settings(
        host="127.0.0.1",
        http_port=own_port(),
        grpc_port=own_port() + 1,
        metrics_port=own_port() + 2,
        parallel_workers=0,
        debug=False,
        use_structured_logging=False,
    )
    model = ModelSettings(name="detect", implementation=DetectModel)
    await MLServer(settings).start([model])


if __name__ == "__main__":
    asyncio.run(main())
