"""What docs/streams.md says of WebSockets works."""

import re
from pathlib import Path

import pytest

from services.detector.routes import stream_socket
from services.detector.routes.socket_messages import MEDIA_TYPES, SocketFields
from tests.fixtures.tiny_stream_model import tiny_stream_repository
from tests.services.detector.serving import ROOT, serving

DOCS = (ROOT / "docs" / "streams.md").read_text()
SECTION = DOCS.partition("## WebSocket\n")[2].partition("\n## ")[0]


def test_the_python_of_the_section_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
    with serving(tiny_stream_repository(tmp_path, "events").root) as served:
        exec(code.replace("127.0.0.1:8100", served.url.removeprefix("http://")), {})
    printed = capsys.readouterr().out
    assert "50000 {'height': 32, 'width': 48}" in printed
    ends = re.findall(r"^(0\.\d+) \[", printed, re.MULTILINE)
    assert ends == [str(round(0.05 * window, 2)) for window in range(1, 20)]
    assert "'closed': True" in printed
    assert "'windows': 19" in printed


def test_every_field_format_and_code_of_the_socket_is_described() -> None:
    fields = set(SocketFields.model_fields) - {"sensor"} | {"sensor_height", "sensor_width"}
    for name in (*fields, *MEDIA_TYPES):
        assert f"`{name}`" in SECTION, name
    codes = {
        code
        for name, code in vars(stream_socket).items()
        if name.isupper() and name.startswith("_") and isinstance(code, int)
    }
    assert codes == {1000, 1008, 1011, 1012, 1013}
    for code in codes - {1000} | {1009}:  # that one is the server's, before the route sees the message
        assert f"| {code} |" in SECTION, code
    for route in stream_socket.router.routes:
        assert f"`{route.path}`" in SECTION  # type: ignore[attr-defined]
