"""Who stores a volume in a container, or reads one, also says how full its disk is."""

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from services.detector.main import create_app as create_detector
from services.detector.settings import DetectorSettings
from services.export.main import create_app as create_export
from services.jobs.main import create_app as create_jobs
from shared.core.settings import CommonSettings
from shared.jobs.runners import Runners
from shared.jobs.settings import QueueSettings
from training.worker import Worker, WorkerSettings

MOUNT = "/var/lib/sightline/"


def registry_of(service: str, settings: CommonSettings) -> CollectorRegistry:
    if service == "worker":
        return Worker(settings, WorkerSettings(), QueueSettings(), Runners({}))._registry
    create = {
        "detector": lambda: create_detector(settings, DetectorSettings()),
        "export": lambda: create_export(settings),
        "jobs": lambda: create_jobs(settings),
    }
    return create[service]().state.registry


@pytest.mark.parametrize("service", ["detector", "export", "jobs", "worker"])
def test_a_service_reports_the_disks_of_its_volumes(
    service: str, compose: dict[str, Any], tmp_path: Path
) -> None:
    targets = [volume.rpartition(MOUNT)[2] for volume in compose["services"][service]["volumes"]]
    mounted = {target.removesuffix(":ro") for target in targets}
    registry = registry_of(service, CommonSettings(var_dir=tmp_path))
    reported = {
        sample.labels["kind"]
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "sightline_disk_free_bytes"
    }
    assert mounted <= reported <= {"data", "runs", "repository", "var"}
