"""Traces, as a collector receives them over OTLP."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from shared.repository import ModelRepository
from tests.services.detector.pictures import encode, two_rectangles
from tests.services.detector.serving import ROOT, serving, until

PICTURE = encode(two_rectangles())
ROUTE = "POST /v1/models/{model}/detect"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Span]]:
    """What a collector of this test's own has received so far."""
    received: list[Span] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                names = {one.key: one.value.string_value for one in resource.resource.attributes}
                assert names["service.name"] == "sightline-detector"
                received.extend(span for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")  # milliseconds
    try:
        yield received
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def of_route(spans: list[Span]) -> list[Span]:
    return [span for span in spans if span.name == ROUTE]


@pytest.mark.parametrize("query", [{}, {"max_detections": 1}], ids=["lane", "framework"])
def test_a_request_is_a_span_in_its_callers_trace_with_a_child_for_each_stage(
    repository: ModelRepository, spans: list[Span], query: dict[str, int]
) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with serving(repository.root) as served:
        headers = {"traceparent": f"00-{trace}-{parent}-01"}
        answer = served.client.post("/v1/models/tiny/detect", content=PICTURE, headers=headers, params=query)
        (request,) = until(lambda: of_route(spans))
        assert (request.trace_id.hex(), request.parent_span_id.hex()) == (trace, parent)
        assert request.kind == Span.SPAN_KIND_SERVER
        attributes = {one.key: one.value for one in request.attributes}
        assert attributes["http.response.status_code"].int_value == 200
        assert attributes["sightline.request_id"].string_value == answer.headers["x-request-id"]
        stages = until(lambda: [one for one in spans if one.parent_span_id == request.span_id])
        assert [one.name for one in stages] == ["queue", "preprocess", "compute", "postprocess"]
        for one, timing in zip(stages, answer.json()["timing_ms"].values(), strict=True):
            assert (one.end_time_unix_nano - one.start_time_unix_nano) / 1e6 == pytest.approx(
                timing, abs=1e-3
            )
        for before, after in pairwise(stages):
            assert before.end_time_unix_nano == after.start_time_unix_nano
        assert stages[-1].end_time_unix_nano <= request.end_time_unix_nano
        assert stages[0].start_time_unix_nano >= request.start_time_unix_nano


def test_failures_are_marked_and_probes_make_no_spans(repository: ModelRepository, spans: list[Span]) -> None:
    with serving(repository.root) as served:
        served.client.get("/livez")
        served.client.post("/v1/models/tiny/detect", content=b"no picture")
        (request,) = until(lambda: of_route(spans))
        assert request.status.code != Status.STATUS_CODE_ERROR  # it is the caller's
        assert {span.name for span in spans} == {ROUTE}


def test_without_a_collector_no_sdk_is_loaded(repository: ModelRepository, tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(PICTURE)
    program = f"""
import sys
from pathlib import Path
from tests.services.detector.serving import serving
with serving(Path({str(repository.root)!r})) as served:
    assert served.detect(Path({str(tmp_path / "picture.png")!r}).read_bytes()).status_code == 200
sys.exit(", ".join(name for name in sys.modules if name.startswith("opentelemetry.sdk")) or 0)
"""
    environment = {"PATH": "/usr/bin:/bin"}
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_a_collector_without_the_packages_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from shared.core.tracing import TracingNotInstalled, tracer_of

    assert tracer_of("detector") is None
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(TracingNotInstalled, match=r"sightline\[tracing\]"):
        tracer_of("detector")
