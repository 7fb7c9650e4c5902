"""The way that every user goes: data set, training, export, call."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

from acceptance.memory import MemoryWatch
from acceptance.project import Project
from acceptance.waiting import Figures, Step, require, wait_for

NAME = "acceptance"
DATA = f"/var/lib/sightline/data/{NAME}"
FINAL = {"succeeded", "failed", "cancelled"}
RECIPE = "recommended"
# Less than a minute on two cores for 120 pictures. The boxes are poor: what is tested is the way to them, and
# that a training that was killed ends with the weights of one that was not.
QUICK = [
    *("model.image_size=208", "model.grid_size=13", "model.depth=light"),
    *("optimizer.lr=1e-3", "schedule.warmup_epochs=1", "data.num_workers=0"),
]


def overrides(epochs: int) -> list[str]:
    """Return the overrides of RECIPE for a training of so many epochs."""
    return [f"data.path={NAME}", f"trainer.max_epochs={epochs}", *QUICK]


class Journey:
    """Trains, exports and calls; what follows goes on with the run and the version that came of it."""

    def __init__(self, project: Project, memory: MemoryWatch, pictures: int, epochs: int) -> None:
        self.project = project
        self.memory = memory
        self.pictures = pictures
        self.epochs = epochs
        self.undisturbed: dict[str, Any] = {}  # the job of the first training
        self.version = 0

    def steps(self) -> Iterator[Step]:
        yield "data set made in the volume", self.make_data
        yield "training job over HTTP", self.train
        yield "export through the gate", self.export
        yield "a picture is answered", self.detect

    def make_data(self) -> Figures:
        held_out = max(8, self.pictures // 6)
        self.project.compose(
            *("run", "--rm", "-T", "--no-deps", "tools", "sightline", "data", "make", "cctv", "--force"),
            *("--out", DATA, "--train", str(self.pictures), "--val", str(held_out), "--test", str(held_out)),
            *("--size", "208", "--seed", "0"),
        )
        return {"pictures": self.pictures + 2 * held_out}

    def train(self) -> Figures:
        self.undisturbed = job = self.finished(self.submit(self.epochs))
        metrics = job["result"]["metrics"]
        return {"epochs": self.epochs, "ap50": round(metrics["ap50"], 3), "attempt": job["attempt"]}

    def export(self) -> Figures:
        body = {"run_id": self.undisturbed["result"]["run_id"], "name": NAME, "precision": "fp32"}
        job = self.finished(self.project.json("export", "POST", "/v1/exports", body, expect=202)["id"])
        self.version = job["result"]["version"]
        return {"version": self.version}

    def detect(self) -> Figures:
        picture = self.picture()
        answer = wait_for("an answer from the new version", lambda: self.answer(picture), 60)
        path, headers = f"/v1/models/{NAME}/detect", {"Accept": "image/jpeg"}
        status, drawn = self.project.request("detector", "POST", path, picture, headers=headers)
        require(status == 200 and drawn[:3] == b"\xff\xd8\xff", f"annotated picture: {status}")
        status, _ = self.project.request("detector", "POST", path, b"GIF89a")
        require(status == 415, f"what is no picture gets {status}")
        return {"boxes": len(answer["detections"]), "compute ms": round(answer["timing_ms"]["compute"], 1)}

    def submit(self, epochs: int) -> str:
        params = {"family": "person", "recipe": RECIPE, "overrides": overrides(epochs)}
        job = self.project.json("jobs", "POST", "/v1/jobs", {"kind": "train", "params": params}, expect=202)
        return str(job["id"])

    def job(self, job_id: str) -> dict[str, Any]:
        return dict(self.project.json("jobs", "GET", f"/v1/jobs/{job_id}"))

    def finished(self, job_id: str, within_s: float = 900) -> dict[str, Any]:
        def final() -> dict[str, Any] | None:
            self.memory.sample()
            job = self.job(job_id)
            return job if job["state"] in FINAL else None

        job = wait_for(f"end of job {job_id}", final, within_s)
        require(job["state"] == "succeeded", f"job {job_id} ended as {job['state']}: {job['error']}")
        return job

    def weights(self, run_id: str) -> str:
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

    def picture(self) -> bytes:
        listing = ["exec", "-T", "worker", "sh", "-c", f"ls {DATA}/test/*.jpg"]
        path = self.project.compose(*listing).split()[0]
        container = self.project.container("worker")
        result = subprocess.run(
            ["docker", "exec", container, "cat", path], capture_output=True, check=True, timeout=30
        )
        return result.stdout

    def answer(self, picture: bytes) -> dict[str, Any] | None:
        path = f"/v1/models/{NAME}/detect?score_threshold=0.3"
        status, body = self.project.request("detector", "POST", path, picture)
        answer = json.loads(body)
        return answer if status == 200 and answer["version"] == self.version else None
