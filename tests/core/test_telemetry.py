import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from shared.core.telemetry import DiskCollector

GIB = 2**30


def disk(registry: CollectorRegistry, kind: str) -> tuple[float | None, float | None]:
    labels = {"kind": kind}
    return (
        registry.get_sample_value("sightline_disk_free_bytes", labels),
        registry.get_sample_value("sightline_disk_size_bytes", labels),
    )


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.mark.skipif(shutil.which("df") is None, reason="no df here")
def test_the_gauges_agree_with_df(registry: CollectorRegistry, tmp_path: Path) -> None:
    registry.register(DiskCollector({"runs": tmp_path}))
    free, size = disk(registry, "runs")
    command = ["df", "--block-size=1", "--output=avail,size", str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[1].split()
    assert free == pytest.approx(int(shown[0]), abs=GIB)  # others write meanwhile
    assert size == int(shown[1])


def test_a_missing_folder_takes_its_nearest_parent_and_every_scrape_looks_again(
    registry: CollectorRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def disk_usage(path: Path) -> object:
        asked.append(path)
        return shutil._ntuple_diskusage(total=100, used=90, free=10)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    folder = tmp_path / "var" / "runs"
    registry.register(DiskCollector({"runs": folder}))
    assert asked == []
    list(registry.collect())
    folder.parent.mkdir()
    list(registry.collect())
    folder.mkdir()
    list(registry.collect())
    assert asked == [tmp_path, tmp_path / "var", folder]
    assert disk(registry, "runs") == (10, 100)


def test_a_disk_that_cannot_be_asked_is_left_out_and_hides_no_other(
    registry: CollectorRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, real = tmp_path / "lost", shutil.disk_usage
    lost.mkdir()

    def disk_usage(path: Path) -> object:
        if path == lost:
            raise OSError(116, "Stale file handle")
        return real(path)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    registry.register(DiskCollector({"data": lost, "runs": tmp_path}))
    assert disk(registry, "data") == (None, None)
    assert None not in disk(registry, "runs")
