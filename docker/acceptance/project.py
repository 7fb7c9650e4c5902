"""The Compose project under test: its containers and its published ports."""

import contextlib
import http.client
import json
import subprocess
from pathlib import Path
from typing import Any

from acceptance.waiting import require

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ["detector", "jobs", "export", "worker"]  # the ones built here


class Project:
    """The Compose project, its published ports and its key, as Compose itself resolves them."""

    def __init__(self, options: list[str]) -> None:
        self._command = ["docker", "compose", "--profile", "cpu", *options]
        self.config: dict[str, Any] = json.loads(self.compose("config", "--format", "json"))
        environment = self.config["services"]["jobs"]["environment"]
        self.key = environment["SIGHTLINE_API_KEYS"].split(",")[0]

    def compose(self, *arguments: str, timeout_s: float = 300) -> str:
        """Run `docker compose` and return what it printed. Raises StepFailed with its error."""
        result = subprocess.run(
            [*self._command, *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=timeout_s,
            check=False,
        )
        require(result.returncode == 0, f"docker compose {arguments[0]}: {result.stderr.strip()[-500:]}")
        return result.stdout

    def docker(self, *arguments: str) -> str:
        result = subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        require(result.returncode == 0, f"docker {arguments[0]}: {result.stderr.strip()[-500:]}")
        return result.stdout

    def container(self, service: str) -> str:
        return self.compose("ps", "--all", "--quiet", service).split()[0]

    def states(self) -> dict[str, str]:
        """Return the state of every container that is there: `running (healthy)` and so on."""
        states = {}
        for identifier in self.compose("ps", "--all", "--quiet").split():
            record = json.loads(self.docker("inspect", identifier))[0]
            service = record["Config"]["Labels"]["com.docker.compose.service"]
            health = record["State"].get("Health", {}).get("Status", "no check")
            states[service] = f"{record['State']['Status']} ({health})"
        return states

    def request(
        self,
        service: str,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        key: bool = True,
    ) -> tuple[int, bytes]:
        """Call a published port on loopback; a body other than bytes travels as JSON."""
        port = int(self.config["services"][service]["ports"][0]["published"])
        sent = {"X-API-Key": self.key} if key else {}
        if body is not None and not isinstance(body, bytes):
            body, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, sent | (headers or {}))
            response = connection.getresponse()
            return response.status, response.read()

    def json(self, service: str, method: str, path: str, body: Any = None, *, expect: int = 200) -> Any:
        status, answer = self.request(service, method, path, body)
        require(status == expect, f"{method} {path}: {status} instead of {expect}: {answer[:400]!r}")
        return json.loads(answer)
