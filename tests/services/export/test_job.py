"""The job ends with the version, once, or with the reason why there is none."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from services.export import job, pipeline
from services.export.runs import Run
from services.export.tasks import detection
from shared.core.settings import CommonSettings
from shared.jobs.context import JobCancelled, JobContext, JobRefused, JobReleased, StopReason
from shared.repository import ModelRepository


@dataclass
class FakeLease:
    """Records what is reported; asks to stop for `reason` from report number `after` on."""

    reason: StopReason | None = None
    after: int = 0
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    ensured: int = 0

    def report(self, type_: str, data: dict[str, Any]) -> None:
        self.events.append((type_, data))

    def stop_requested(self) -> StopReason | None:
        return self.reason if len(self.events) >= self.after else None

    def ensure(self) -> None:
        self.ensured += 1


@pytest.fixture(autouse=True)
def trace_once(monkeypatch: pytest.MonkeyPatch, traced: tuple[Path, list[str]]) -> None:
    def export(graph: Any, path: Path) -> list[str]:
        path.write_bytes(traced[0].read_bytes())
        return traced[1]

    monkeypatch.setattr(pipeline, "export_onnx", export)


@pytest.fixture
def settings(run: Run, data_root: Path, tmp_path: Path) -> CommonSettings:
    return CommonSettings(var_dir=tmp_path, runs_root=run.path.parent, data_root=data_root)


def context(settings: CommonSettings, lease: FakeLease, *, attempt: int = 1, **params: Any) -> JobContext:
    given = {"run_id": "toy-run", "name": "toy"} | params
    return JobContext("export-1", "export", given, attempt, settings.var_dir / "job", settings, lease)


def repository(settings: CommonSettings) -> ModelRepository:
    assert settings.repository_root is not None
    return ModelRepository(settings.repository_root)


def test_the_result_names_the_version_and_progress_only_grows(settings: CommonSettings) -> None:
    lease = FakeLease()
    result = job.run(context(settings, lease))
    assert (result["name"], result["version"], result["promoted"]) == ("toy", 1, True)
    assert Path(result["path"]) == repository(settings).path("toy", 1)
    assert all(check["passed"] for check in result["parity"]["checks"])
    assert repository(settings).resolve("toy") == 1
    progress = [data["progress"] for type_, data in lease.events if type_ == "step"]
    assert progress == sorted(progress)
    assert (progress[0], progress[-1]) == (0.0, 1.0)
    assert lease.ensured == 1


@pytest.mark.parametrize("attempt", [1, 2])  # a job that is retried begins with attempt 1 again
def test_a_later_attempt_finds_the_version_that_an_earlier_one_published(
    settings: CommonSettings, attempt: int
) -> None:
    first = job.run(context(settings, FakeLease(), promote=False))
    again = job.run(context(settings, FakeLease(), attempt=attempt, promote=True))
    assert again["version"] == first["version"]
    assert repository(settings).versions("toy") == [1]
    assert repository(settings).resolve("toy") == 1


@pytest.mark.parametrize(
    ("reason", "raised"), [("cancel", JobCancelled), ("shutdown", JobReleased), ("lease_lost", JobReleased)]
)
@pytest.mark.parametrize("after", [0, 4])
def test_a_stop_leaves_no_version(
    settings: CommonSettings, reason: StopReason, raised: type[Exception], after: int
) -> None:
    with pytest.raises(raised):
        job.run(context(settings, FakeLease(reason, after)))
    assert repository(settings).models() == []


def test_a_stop_that_comes_after_publishing_ends_with_the_version(settings: CommonSettings) -> None:
    undisturbed = FakeLease()
    job.run(context(settings, undisturbed, name="other"))
    result = job.run(context(settings, FakeLease("cancel", after=len(undisturbed.events) - 1)))
    assert repository(settings).versions("toy") == [result["version"]]


def test_a_version_that_cannot_be_read_is_in_no_exports_way(settings: CommonSettings) -> None:
    first = job.run(context(settings, FakeLease()))
    (Path(first["path"]) / "manifest.json").write_text("{")
    lease = FakeLease()
    again = job.run(
        JobContext(
            "export-2",
            "export",
            {"run_id": "toy-run", "name": "toy", "promote": False},
            1,
            settings.var_dir / "job",
            settings,
            lease,
        )
    )
    assert again["version"] == 2


def test_what_the_gate_refuses_fails_for_good_with_its_numbers(
    settings: CommonSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = detection.append_suppression
    monkeypatch.setattr(
        detection,
        "append_suppression",
        lambda path, **given: real(path, **(given | {"score_threshold": 0.95})),
    )
    with pytest.raises(JobRefused, match="the gate refused the export") as caught:
        job.run(context(settings, FakeLease(), end_to_end=True))
    assert any(not check["passed"] for check in caught.value.numbers["parity"]["checks"])


@pytest.mark.parametrize("run_id", ["nobody", "..", "/etc"])
def test_an_unknown_run_fails_for_good(settings: CommonSettings, run_id: str) -> None:
    with pytest.raises((JobRefused, ValueError), match="run"):
        job.run(context(settings, FakeLease(), run_id=run_id))
