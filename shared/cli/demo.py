"""`sightline demo`: the whole way once, from labelled pictures to an answered call, on this machine."""

import json
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from shared.cli.client import api_client, call, explained
from shared.cli.console import ExitCode, err, fail, out, print_json
from shared.cli.stack import stack
from shared.cli.supervisor import StartFailed, Supervisor
from shared.cli.up import one_per_folder
from shared.core.files import write_atomic
from shared.core.logging import configure_logging
from shared.core.settings import CommonSettings
from shared.jobs.client import watch_job

MODEL = "person"
DATA_SET = "cctv"
PICTURE_SIDE_PX = 256  # what the recipe `demo` trains on


@dataclass
class Summary:
    """What `summary.json` holds; the figures come from the held-out pictures of the run."""

    ap50: float = 0.0
    ap: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    detections: list[dict[str, Any]] = field(default_factory=list)
    paths: dict[str, str] = field(default_factory=dict)
    model: str = MODEL
    version: int = 0


def demo(
    train: Annotated[int, typer.Option(min=8, help="Pictures to train on.")] = 3200,
    held_out: Annotated[
        int, typer.Option(min=4, help="Pictures to validate on, and as many to test on.")
    ] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the pictures.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Make pictures, train, export and serve a person detector, and call it; then stop everything.

    Works in `<var_dir>/demo`, where the summary, the run and the model stay.
    """
    common = CommonSettings()
    settings = _on_free_ports(CommonSettings(var_dir=common.var_dir / "demo"))
    configure_logging(settings.model_copy(update={"log_level": "warning"}), "demo")
    # As Ctrl-C does, a request to end or a closed terminal unwinds the stack, which stops the processes.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    with one_per_folder(settings.var_dir):
        demo = Demo(settings, {"train": train, "val": held_out, "test": held_out}, seed)
        demo.run()
        write_summary(settings, demo.summary)
    if as_json:
        print_json(asdict(demo.summary))
    else:
        _show(settings, common, demo.summary)


def write_summary(settings: CommonSettings, summary: Summary) -> None:
    """Write `summary.json` beside the demo's other results."""
    path = settings.var_dir / "summary.json"
    summary.paths["summary"] = str(path)
    write_atomic(path, json.dumps(asdict(summary), indent=2))


class Demo:
    """The steps, each timed under the name it has in the summary."""

    def __init__(self, settings: CommonSettings, pictures: dict[str, int], seed: int) -> None:
        self._settings = settings
        self._pictures = pictures
        self._seed = seed
        self.summary = Summary()

    @contextmanager
    def _phase(self, name: str, title: str) -> Iterator[None]:
        started = time.perf_counter()
        err.print(f"[bold]{title}[/]", highlight=False)
        yield
        self.summary.seconds[name] = round(time.perf_counter() - started, 2)

    def run(self) -> None:
        """Run every step; leaves the command with a message where one of them goes wrong."""
        data_set = self._make_data()
        with Supervisor(self._settings.var_dir / "logs") as supervisor:
            self._start(supervisor)
            run_id = self._train()
            self._export(run_id)
            self._detect(data_set)
        total = sum(self.summary.seconds.values())
        self.summary.seconds["total"] = round(total, 2)

    def _make_data(self) -> Path:
        from shared.data.synthetic.cctv import generate_cctv

        assert self._settings.data_root is not None
        data_set = self._settings.data_root / DATA_SET
        with self._phase("data", f"making {sum(self._pictures.values())} labelled pictures in {data_set}"):
            shutil.rmtree(data_set, ignore_errors=True)  # the demo's own folder, made anew every time
            size = (PICTURE_SIDE_PX, PICTURE_SIDE_PX)
            generate_cctv(data_set, count=self._pictures, size=size, seed=self._seed)
        self.summary.paths["data"] = str(data_set)
        return data_set

    def _start(self, supervisor: Supervisor) -> None:
        with self._phase("start", "starting broker, services and worker"):
            try:
                for spec in stack(self._settings):
                    supervisor.start(spec, within_s=90)
            except (StartFailed, FileNotFoundError) as error:
                fail(str(error), hint="`sightline doctor` says what is missing", code=ExitCode.UNAVAILABLE)

    def _train(self) -> str:
        request = {
            "kind": "train",
            "params": {"family": "person", "recipe": "demo", "overrides": [f"data.path={DATA_SET}"]},
        }
        with (
            self._phase("train", "training (POST /v1/jobs)"),
            self._client(self._settings.jobs_url) as client,
        ):
            job = call(client, "jobs", "POST", "/v1/jobs", json=request)
            with explained("jobs"):
                job = _shown(client, job["id"])
        result = _result_of(job)
        metrics = result["metrics"]
        self.summary.ap50, self.summary.ap = metrics["ap50"], metrics["ap"]
        self.summary.paths["run"] = result["run_dir"]
        run_id: str = result["run_id"]
        return run_id

    def _export(self, run_id: str) -> None:
        request = {"run_id": run_id, "name": MODEL, "precision": "fp32", "promote": True}
        with self._phase("export", "exporting through the gate (POST /v1/exports)"):
            with self._client(self._settings.export_url) as client:
                job = call(client, "export", "POST", "/v1/exports", json=request)
            with self._client(self._settings.jobs_url) as client, explained("jobs"):
                *_, last = watch_job(client, job["id"])
        result = _result_of(last.data)
        self.summary.version = result["version"]
        self.summary.paths["version"] = result["path"]

    def _detect(self, data_set: Path) -> None:
        picture = _picture_with_people(data_set, "test")
        annotated = self._settings.var_dir / "annotated.jpg"
        body = picture.read_bytes()
        path = f"/v1/models/{MODEL}/detect"
        headers = {"Content-Type": "image/jpeg"}
        detect = self._phase("detect", f"asking the detector (POST {path})")
        with detect, self._client(self._settings.detector_url) as client, explained("detector"):
            _wait_until_served(client, MODEL, self.summary.version, within_s=30)
            answer = call(client, "detector", "POST", path, content=body, headers=headers)
            drawn = client.post(path, content=body, headers=headers | {"Accept": "image/jpeg"})
            drawn.raise_for_status()
            write_atomic(annotated, drawn.content)
        self.summary.detections = answer["detections"]
        self.summary.paths |= {"picture": str(picture), "annotated": str(annotated)}

    def _client(self, url: str) -> httpx.Client:
        return api_client(self._settings, url)


def _picture_with_people(data_set: Path, split: str) -> Path:
    """Return the held-out picture with the most people, so that there is something to see."""
    from shared.data.formats import read_detection_set

    records = read_detection_set(data_set, split=split).records
    return max(records, key=lambda record: len(record.boxes)).image_path


def _shown(client: httpx.Client, job_id: str) -> dict[str, Any]:
    """Show a training job's progress until it ends; returns the job."""
    columns = (TextColumn("  epoch"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeRemainingColumn(), console=err) as progress:
        bar = progress.add_task("training", total=None, note="")
        for event in watch_job(client, job_id):
            if event.type == "epoch":
                data = event.data
                note = f"loss {data['loss']:.3f}"
                if data.get("ap50") is not None:
                    note += f"  AP50 {data['ap50']:.3f}"
                progress.update(bar, total=data["max_epochs"], completed=data["epoch"], note=note)
            elif event.type == "end":
                return event.data
    raise AssertionError("a watched job ends with its end event, or watching raises")


def _result_of(job: dict[str, Any]) -> dict[str, Any]:
    if job["state"] != "succeeded":
        error = job.get("error") or {}
        fail(
            f"the {job['kind']} job {job['state']}: {error.get('message', 'no message')}",
            hint="the worker's log under logs/ has the rest",
        )
    result: dict[str, Any] = job["result"]
    return result


def _wait_until_served(client: httpx.Client, model: str, version: int, *, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        response = client.get(f"/v1/models/{model}")
        if response.is_success and response.json()["version"] == version:
            return
        time.sleep(0.1)
    fail(
        f"the detector does not serve {model} version {version} after {within_s:g} s",
        code=ExitCode.UNAVAILABLE,
    )


def _on_free_ports(settings: CommonSettings) -> CommonSettings:
    """Return the settings with addresses that nobody uses, so that a running stack is left in peace."""
    names = ("detector_url", "jobs_url", "export_url", "worker_url", "embedded_redis_port")
    probes = {name: socket.create_server(("127.0.0.1", 0)) for name in names}
    ports = {name: probe.getsockname()[1] for name, probe in probes.items()}
    for probe in probes.values():
        probe.close()
    urls = {name: f"http://127.0.0.1:{ports[name]}" for name in names if name.endswith("_url")}
    redis_port = ports["embedded_redis_port"]
    redis = {"embedded_redis_port": redis_port, "redis_url": f"redis://127.0.0.1:{redis_port}/0"}
    return settings.model_copy(update=urls | redis)


def _show(settings: CommonSettings, common: CommonSettings, summary: Summary) -> None:
    table = Table("label", "score", "x1", "y1", "x2", "y2", box=None, pad_edge=False)
    for detection in summary.detections:
        box = [f"{detection['box'][edge]:.1f}" for edge in ("x1", "y1", "x2", "y2")]
        table.add_row(detection["label"], f"{detection['score']:.2f}", *box)
    out.print(table)
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in summary.seconds.items())
    out.print(
        f"\nAP50 {summary.ap50:.3f}, AP {summary.ap:.3f} on held-out pictures ({seconds})", highlight=False
    )
    out.print(f"annotated picture: {summary.paths['annotated']}", highlight=False, soft_wrap=True)
    out.print(f"summary:           {summary.paths['summary']}", highlight=False, soft_wrap=True)
    folder = settings.var_dir
    out.print(
        f"\nto go on: SIGHTLINE_VAR_DIR={folder} sightline up\n"
        f"then:     curl --data-binary @{summary.paths['picture']} "
        f"{common.detector_url}/v1/models/{summary.model}/detect\n"
        f"or look:  {common.detector_url}/docs",
        highlight=False,
        soft_wrap=True,
    )
