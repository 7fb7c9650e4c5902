"""BentoML by its documentation: an API method of a service.

https://docs.bentoml.com/en/latest/build-with-bentoml/parallelize-requests.html: one worker process with
`threads` for code that releases the interpreter lock, as ONNX Runtime and OpenCV do. Adaptive batching is
off, as it is by default: it gains nothing on a CPU. The picture is the raw body (a root input of bytes, which
spares the temporary file of a `Path`) and the answer goes out as JSON made by hand.
"""

import os
from typing import Annotated

import bentoml
from bentoml.validators import ContentType

from services.detector.cli.bench.peers.detection import THREADS_VARIABLE, Detector

_THREADS = int(os.environ.get(THREADS_VARIABLE, "1"))


@bentoml.service(workers=1, threads=_THREADS, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Detect:
    def __init__(self) -> None:
        self.detector = Detector.of_this_process()

    @bentoml.api(route="/detect")
    def detect(
        self, image: Annotated[bytes, ContentType("image/jpeg")], /
    ) -> Annotated[bytes, ContentType("application/json")]:
        return self.detector.answer_bytes(image)
