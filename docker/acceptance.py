#!/usr/bin/env python3
"""Acceptance of a running Compose project: train, export and call through it, break it, and look again.

`docker compose up -d --build --wait`, then `docker/acceptance.py [--env-file FILE] [--output FILE.json]`.
Needs nothing but Python 3.11 and `docker compose`. It stops, kills and restarts services and leaves one data
set (`acceptance`), its runs and a model of the same name behind, so give it a project that nobody else is
using. Prints a table; the exit status is 1 where a step failed.
"""

import argparse
import contextlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[1]
NAME = "acceptance"
DATA = f"/var/lib/sightline/data/{NAME}"
T = TypeVar("T")
FINAL = {"succeeded", "failed", "cancelled"}
SERVICES = ["detector", "jobs", "export", "worker"]


class StepFailed(Exception):
    """A step did not end as it should."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise StepFailed(message)


def wait_for(what: str, ask: Callable[[], T | None], within_s: float) -> T:
    """Ask again and again until the answer is true; refused connections count as not yet."""
    deadline = time.monotonic() + within_s
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if answer := ask():
                return answer
        require(time.monotonic() < deadline, f"{what}: not within {within_s:g} s")
        time.sleep(0.5)


class Project:
    """The Compose project, its published ports and its key, as Compose itself resolves them."""

    def __init__(self, options: list[str]) -> None:
        self._command = ["docker", "compose", "--profile", "cpu", "--profile", "tools", *options]
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


class Acceptance:
    """The steps in their order; each returns what is worth writing down."""

    def __init__(self, project: Project, pictures: int, epochs: int) -> None:
        self.project = project
        self.pictures = pictures
        self.epochs = epochs
        self.memory_mib: dict[str, float] = {}
        self.version = 0

    def steps(self) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
        yield "all services are healthy", self.all_healthy
        yield "images", self.images
        yield "a call without the key is refused", self.key_is_needed
        yield "data set made in the volume", self.make_data
        yield "training job over HTTP", self.train
        yield "export through the gate", self.export
        yield "a picture is answered", self.detect
        yield "worker killed in the middle of training", self.kill_worker
        yield "redis stopped, job submitted, redis started", self.stop_redis
        yield "postgres stopped and started", self.stop_postgres
        yield "detector restarted", self.restart_detector
        yield "all stopped cleanly and started again", self.stop_and_start
        yield "prometheus reaches every target", self.targets
        yield "memory", self.memory

    def all_healthy(self) -> dict[str, Any]:
        expected = {
            name
            for name, service in self.project.config["services"].items()
            if service.get("profiles", ["cpu"]) == ["cpu"]
        }

        def healthy() -> bool:
            states = self.project.states()
            return {name for name, state in states.items() if state == "running (healthy)"} >= expected

        wait_for("healthy services", healthy, 180)
        return {"services": len(expected)}

    def images(self) -> dict[str, Any]:
        sizes = {}
        for service in [*SERVICES, "mlflow"]:
            image = json.loads(self.project.docker("inspect", self.project.container(service)))[0]["Image"]
            sizes[service] = round(
                json.loads(self.project.docker("image", "inspect", image))[0]["Size"] / 1e6
            )
        for service in ("detector", "jobs", "export"):
            code = "import importlib.util as u; print([m for m in ('torch', 'training') if u.find_spec(m)])"
            found = self.project.compose("exec", "-T", service, "python", "-c", code).strip()
            require(found == "[]", f"{service} holds {found}")
        return {f"{service} MB": size for service, size in sizes.items()}

    def key_is_needed(self) -> dict[str, Any]:
        for service, path in (("jobs", "/v1/jobs"), ("export", "/v1/runs"), ("detector", "/v1/models")):
            status, _ = self.project.request(service, "GET", path, key=False)
            require(status == 401, f"{service} answers {status} without a key")
            status, _ = self.project.request(service, "GET", "/livez", key=False)
            require(status == 200, f"/livez of {service} answers {status}")
        return {"status": 401}

    def make_data(self) -> dict[str, Any]:
        held_out = max(8, self.pictures // 6)
        self.project.compose(
            *("run", "--rm", "-T", "--no-deps", "tools", "sightline", "data", "make", "cctv", "--force"),
            *("--out", DATA, "--train", str(self.pictures), "--val", str(held_out), "--test", str(held_out)),
            *("--size", "208", "--seed", "0"),
        )
        return {"pictures": self.pictures + 2 * held_out}

    def _submit(self, epochs: int) -> str:
        overrides = [f"data.path={NAME}", f"trainer.max_epochs={epochs}"]
        params = {"family": "person", "recipe": "demo", "overrides": overrides}
        job = self.project.json("jobs", "POST", "/v1/jobs", {"kind": "train", "params": params}, expect=202)
        return str(job["id"])

    def _job(self, job_id: str) -> dict[str, Any]:
        return dict(self.project.json("jobs", "GET", f"/v1/jobs/{job_id}"))

    def _finished(self, job_id: str, within_s: float = 900) -> dict[str, Any]:
        def final() -> dict[str, Any] | None:
            self._sample_memory()
            job = self._job(job_id)
            return job if job["state"] in FINAL else None

        job = wait_for(f"end of job {job_id}", final, within_s)
        require(job["state"] == "succeeded", f"job {job_id} ended as {job['state']}: {job['error']}")
        return job

    def _weights(self, run_id: str) -> str:
        """Return a digest of a run's best weights, tensor by tensor: the file's header has no fixed order."""
        code = (
            "import hashlib, sys\n"
            "from safetensors.numpy import load_file\n"
            "digest = hashlib.sha256()\n"
            "for name, tensor in sorted(load_file(sys.argv[1]).items()):\n"
            "    digest.update(name.encode() + tensor.tobytes())\n"
            "print(digest.hexdigest())\n"
        )
        path = f"/var/lib/sightline/runs/{run_id}/weights.safetensors"
        return self.project.compose("exec", "-T", "worker", "python", "-c", code, path).strip()

    def train(self) -> dict[str, Any]:
        self.undisturbed = job = self._finished(self._submit(self.epochs))
        metrics = job["result"]["metrics"]
        return {"epochs": self.epochs, "ap50": round(metrics["ap50"], 3), "attempt": job["attempt"]}

    def export(self) -> dict[str, Any]:
        body = {"run_id": self.undisturbed["result"]["run_id"], "name": NAME, "precision": "fp32"}
        job = self._finished(self.project.json("export", "POST", "/v1/exports", body, expect=202)["id"])
        self.version = job["result"]["version"]
        return {"version": self.version}

    def _picture(self) -> bytes:
        listing = ["exec", "-T", "worker", "sh", "-c", f"ls {DATA}/test/*.jpg"]
        path = self.project.compose(*listing).split()[0]
        container = self.project.container("worker")
        result = subprocess.run(
            ["docker", "exec", container, "cat", path], capture_output=True, check=True, timeout=30
        )
        return result.stdout

    def _detect(self, picture: bytes) -> dict[str, Any] | None:
        path = f"/v1/models/{NAME}/detect?score_threshold=0.3"
        status, body = self.project.request("detector", "POST", path, picture)
        answer = json.loads(body)
        return answer if status == 200 and answer["version"] == self.version else None

    def detect(self) -> dict[str, Any]:
        picture = self._picture()
        answer = wait_for("an answer from the new version", lambda: self._detect(picture), 60)
        path, headers = f"/v1/models/{NAME}/detect", {"Accept": "image/jpeg"}
        status, drawn = self.project.request("detector", "POST", path, picture, headers=headers)
        require(status == 200 and drawn[:3] == b"\xff\xd8\xff", f"annotated picture: {status}")
        status, _ = self.project.request("detector", "POST", path, b"GIF89a")
        require(status == 415, f"what is no picture gets {status}")
        return {"boxes": len(answer["detections"]), "compute ms": round(answer["timing_ms"]["compute"], 1)}

    def kill_worker(self) -> dict[str, Any]:
        job_id = self._submit(self.epochs)
        wait_for(
            "the first third of the training",
            lambda: (self._job(job_id)["progress"] or 0) > 0.3,
            600,
        )
        # From inside, because Docker does not restart what was killed by its own command.
        code = (
            "import os, pathlib, signal\n"
            "for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):\n"
            "    words = path.read_bytes().split(b'\\0')\n"
            "    if b'python' in words[0] and b'training.worker' in words:\n"
            "        os.kill(int(path.parent.name), signal.SIGKILL)\n"
        )
        self.project.compose("exec", "-T", "worker", "python", "-c", code)
        killed = time.monotonic()
        job = self._finished(job_id)
        require(job["attempt"] == 2, f"the job took {job['attempt']} attempts")
        ids = [self.undisturbed["result"]["run_id"], job["result"]["run_id"]]
        same = self._weights(ids[0]) == self._weights(ids[1])
        require(same, "the weights differ from those of the undisturbed run")
        return {"attempt": 2, "same weights": same, "s after kill": round(time.monotonic() - killed, 1)}

    def stop_redis(self) -> dict[str, Any]:
        self.project.compose("stop", "redis")
        job_id = self._submit(1)  # accepted: the row is the truth
        require(self._job(job_id)["state"] == "queued", "a job starts without Redis")
        self.project.compose("start", "redis")
        started = time.monotonic()
        self._finished(job_id)
        return {"s after start": round(time.monotonic() - started, 1)}

    def stop_postgres(self) -> dict[str, Any]:
        before = len(self.project.json("jobs", "GET", "/v1/jobs")["jobs"])
        self.project.compose("stop", "postgres")
        status, _ = self.project.request("jobs", "GET", "/v1/jobs")
        require(status == 503, f"without its database the jobs service answers {status}")
        self.project.compose("start", "postgres")
        jobs = wait_for("the list of jobs", lambda: self._listed(), 60)
        require(len(jobs) == before, f"{before} jobs before, {len(jobs)} after")
        return {"status meanwhile": status, "jobs": before}

    def _listed(self) -> list[Any] | None:
        status, body = self.project.request("jobs", "GET", "/v1/jobs")
        return list(json.loads(body)["jobs"]) if status == 200 else None

    def restart_detector(self) -> dict[str, Any]:
        picture = self._picture()
        self.project.compose("stop", "detector")
        started = time.monotonic()
        self.project.compose("start", "detector")
        wait_for("an answer after the restart", lambda: self._detect(picture), 60)
        return {"s to the first answer": round(time.monotonic() - started, 1)}

    def stop_and_start(self) -> dict[str, Any]:
        started = time.monotonic()
        self.project.compose("stop", timeout_s=240)
        stopped_s = time.monotonic() - started
        codes = {}
        for service in SERVICES:
            state = json.loads(self.project.docker("inspect", self.project.container(service)))[0]["State"]
            codes[service] = state["ExitCode"]
        require(set(codes.values()) == {0}, f"exit codes {codes}")
        self.project.compose("down", timeout_s=120)
        self.project.compose("up", "--detach", "--wait", "--no-build", timeout_s=300)
        picture = self._picture()
        wait_for("an answer from the model that was there before", lambda: self._detect(picture), 60)
        return {"stop s": round(stopped_s, 1), "exit codes": "all 0"}

    def targets(self) -> dict[str, Any]:
        expected = {"detector", "jobs", "export", "worker", "prometheus"}

        def up() -> dict[str, str] | None:
            _, body = self.project.request("prometheus", "GET", "/api/v1/targets", key=False)
            active = json.loads(body)["data"]["activeTargets"]
            health = {target["labels"]["job"]: target["health"] for target in active}
            return health if health == dict.fromkeys(expected, "up") else None

        wait_for("every target up", up, 90)
        _, body = self.project.request("prometheus", "GET", "/api/v1/rules", key=False)
        rules = [rule for group in json.loads(body)["data"]["groups"] for rule in group["rules"]]
        broken = [rule["name"] for rule in rules if rule["health"] == "err"]
        require(not broken, f"rules that cannot be evaluated: {broken}")
        firing = sorted(rule["name"] for rule in rules if rule["state"] == "firing")
        return {"targets": len(expected), "rules": len(rules), "firing": ", ".join(firing) or "none"}

    def _sample_memory(self) -> None:
        units = {"B": 1 / 2**20, "KiB": 1 / 2**10, "MiB": 1.0, "GiB": 2.0**10}
        names = {self.project.container(name): name for name in self.project.states()}
        for line in self.project.docker(
            "stats", "--no-stream", "--no-trunc", "--format", "json"
        ).splitlines():
            record = json.loads(line)
            service = names.get(record["ID"])
            used = record["MemUsage"].split(" / ")[0]
            unit = used.lstrip("0123456789.")
            if service:
                mib = float(used.removesuffix(unit)) * units[unit]
                self.memory_mib[service] = max(self.memory_mib.get(service, 0.0), round(mib, 1))

    def memory(self) -> dict[str, Any]:
        self._sample_memory()
        return {f"{service} MiB": mib for service, mib in sorted(self.memory_mib.items())}


def run(acceptance: Acceptance) -> list[dict[str, Any]]:
    """Run the steps until one fails; each comes back with its outcome, its seconds and its figures."""
    results = []
    for title, step in acceptance.steps():
        started = time.monotonic()
        try:
            figures, passed = step(), True
        except (StepFailed, subprocess.TimeoutExpired, OSError, http.client.HTTPException) as error:
            figures, passed = {"error": f"{type(error).__name__}: {error}"}, False
        seconds = round(time.monotonic() - started, 1)
        results.append({"step": title, "passed": passed, "seconds": seconds, **figures})
        shown = ", ".join(f"{name} {value}" for name, value in figures.items())
        print(f"{'ok  ' if passed else 'FAIL'}  {seconds:6.1f} s  {title}: {shown}", flush=True)
        if not passed:
            break
    return results


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env-file", type=Path, help="instead of .env")
    parser.add_argument("--project-directory", type=Path, help="where docker-compose.yml lies, if not here")
    parser.add_argument("--output", type=Path, help="write the figures here as JSON")
    parser.add_argument("--pictures", type=int, default=120, help="pictures to train on")
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    options = []
    if arguments.env_file:
        options += ["--env-file", str(arguments.env_file.resolve())]
    if arguments.project_directory:
        options += ["--project-directory", str(arguments.project_directory.resolve())]
    try:
        project = Project(options)
    except StepFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    results = run(Acceptance(project, arguments.pictures, arguments.epochs))
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")
    return 0 if all(result["passed"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
