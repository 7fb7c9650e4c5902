"""Steps that kill, stop and restart what others depend on, and look at what has become of the work."""

import json
import time
from collections.abc import Iterator
from typing import Any

from acceptance.journey import Journey
from acceptance.project import SERVICES
from acceptance.waiting import Figures, Step, require, wait_for


class Outages:
    """Breaks the project of a journey that has come to its end."""

    def __init__(self, journey: Journey) -> None:
        self.project = journey.project
        self.journey = journey

    def steps(self) -> Iterator[Step]:
        yield "worker killed in the middle of training", self.kill_worker
        yield "redis stopped, job submitted, redis started", self.stop_redis
        yield "postgres stopped and started", self.stop_postgres
        yield "detector restarted", self.restart_detector
        yield "all stopped cleanly and started again", self.stop_and_start

    def kill_worker(self) -> Figures:
        job_id = self.journey.submit(self.journey.epochs)
        wait_for(
            "the first third of the training",
            lambda: (self.journey.job(job_id)["progress"] or 0) > 0.3,
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
        job = self.journey.finished(job_id)
        require(job["attempt"] == 2, f"the job took {job['attempt']} attempts")
        ids = [self.journey.undisturbed["result"]["run_id"], job["result"]["run_id"]]
        same = self.journey.weights(ids[0]) == self.journey.weights(ids[1])
        require(same, "the weights differ from those of the undisturbed run")
        return {"attempt": 2, "same weights": same, "s after kill": round(time.monotonic() - killed, 1)}

    def stop_redis(self) -> Figures:
        self.project.compose("stop", "redis")
        job_id = self.journey.submit(1)  # accepted: the row is the truth
        require(self.journey.job(job_id)["state"] == "queued", "a job starts without Redis")
        self.project.compose("start", "redis")
        started = time.monotonic()
        self.journey.finished(job_id)
        return {"s after start": round(time.monotonic() - started, 1)}

    def stop_postgres(self) -> Figures:
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

    def restart_detector(self) -> Figures:
        picture = self.journey.picture()
        self.project.compose("stop", "detector")
        started = time.monotonic()
        self.project.compose("start", "detector")
        wait_for("an answer after the restart", lambda: self.journey.answer(picture), 60)
        return {"s to the first answer": round(time.monotonic() - started, 1)}

    def stop_and_start(self) -> Figures:
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
        picture = self.journey.picture()
        wait_for("an answer from the model that was there before", lambda: self.journey.answer(picture), 60)
        return {"stop s": round(stopped_s, 1), "exit codes": "all 0"}
