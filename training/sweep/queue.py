"""A sweep's runs in the job queue, over the jobs service's HTTP interface."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import httpx

from shared.cli.client import explained
from training.sweep.points import Point, Sweep

FINAL = frozenset({"succeeded", "failed", "cancelled"})
_UNREACHABLE_S = 60.0  # a service that restarts is waited for this long

Job = dict[str, Any]
OnChange = Callable[[Point, Job], None]


class SweepQueue:
    """Submits points and waits for their jobs. The jobs go on when whoever waits goes away."""

    def __init__(self, client: httpx.Client, sweep: Sweep, *, poll_s: float = 1.0) -> None:
        self._client, self._sweep, self._poll_s = client, sweep, poll_s
        self._seen: dict[str, tuple[Any, ...]] = {}

    def submit(self, point: Point) -> Job:
        """Return the point's job; the second time for the same point it is the job of the first time."""
        with explained("jobs"):
            response = self._client.post(
                "/v1/jobs",
                json={"kind": "train", "params": self._sweep.params(point), "group": self._sweep.name},
                headers={"Idempotency-Key": self._sweep.idempotency_key(point)},
            )
            response.raise_for_status()
            job: Job = response.json()
            return job

    def changed(self, job_ids: Iterable[str]) -> list[Job]:
        """Ask once for these jobs; return those that changed since they were last asked for.

        A job that is over is returned each time: two points may be the same job.
        """
        changed = []
        for job_id in job_ids:
            job = self._show(job_id)
            state = (job["state"], job["attempt"], job["progress"])
            if job["state"] in FINAL or self._seen.get(job_id) != state:
                self._seen[job_id] = state
                changed.append(job)
        return changed

    def run(self, points: Sequence[Point], on_change: OnChange) -> list[tuple[Point, Job]]:
        """Submit every point and return each with its job once all are over, in the points' order."""
        jobs = {point_id: self.submit(point)["id"] for point_id, point in enumerate(points)}
        ended: dict[int, Job] = {}
        while True:
            by_job = {job: point_id for point_id, job in jobs.items() if point_id not in ended}
            for job in self.changed(list(by_job)):
                on_change(points[by_job[job["id"]]], job)
                if job["state"] in FINAL:
                    ended[by_job[job["id"]]] = job
            if len(ended) == len(points):
                return [(point, ended[point_id]) for point_id, point in enumerate(points)]
            self.pause()

    def pause(self) -> None:
        """Wait a little before asking again."""
        time.sleep(self._poll_s)

    def _show(self, job_id: str) -> Job:
        deadline = time.monotonic() + _UNREACHABLE_S
        while True:
            with explained("jobs"):
                try:
                    response = self._client.get(f"/v1/jobs/{job_id}")
                    if response.status_code != 503 or time.monotonic() > deadline:
                        response.raise_for_status()
                        job: Job = response.json()
                        return job
                except httpx.TransportError:
                    if time.monotonic() > deadline:
                        raise
            self.pause()
