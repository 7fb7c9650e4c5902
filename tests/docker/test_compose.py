"""Rules that every service in docker-compose.yml keeps."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_jsonschema import main as check_jsonschema
from click.testing import CliRunner

ROOT = Path(__file__).parents[2]
SERVICES = sorted(yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"])
OURS = [name for name in SERVICES if name not in {"redis", "postgres", "prometheus", "grafana"}]
VARIABLE_WITHOUT_DEFAULT = re.compile(r"\$\{\w+:\?[^}]+\}")


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest, compose: dict[str, Any]) -> dict[str, Any]:
    return compose["services"][request.param]


def test_the_file_follows_the_compose_specification() -> None:
    result = CliRunner().invoke(
        check_jsonschema, ["--builtin-schema", "vendor.compose-spec", str(ROOT / "docker-compose.yml")]
    )
    assert result.exit_code == 0, result.output


def test_it_has_the_services_of_the_design() -> None:
    assert set(SERVICES) == {
        *("detector", "detector-gpu", "jobs", "export", "worker", "worker-gpu", "tools"),
        *("redis", "postgres", "mlflow", "prometheus", "grafana"),
    }


def test_a_service_is_not_root_and_its_user_is_a_number(service: dict[str, Any]) -> None:
    user = re.fullmatch(r"(\d+):(\d+)", service["user"])
    assert user is not None
    assert int(user[1]) > 0


@pytest.mark.parametrize("name", OURS)
def test_our_own_images_run_as_10001(name: str, compose: dict[str, Any]) -> None:
    assert compose["services"][name]["user"] == "10001:10001"


def test_the_root_file_system_is_read_only(service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    for mount in service.get("tmpfs", []):
        assert re.search(r"size=\d+m", mount), f"{mount} may take all memory"


def test_no_capability_and_no_new_privileges(service: dict[str, Any]) -> None:
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_memory_processes_and_logs_are_bounded(service: dict[str, Any]) -> None:
    assert re.fullmatch(r"(\$\{\w+:-)?\d+[mg]\}?", service["mem_limit"])
    assert 0 < service["pids_limit"] <= 1024
    assert set(service["logging"]["options"]) == {"max-size", "max-file"}


def test_there_is_a_health_check_with_bounds(service: dict[str, Any]) -> None:
    check = service["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}


def test_long_running_services_come_back_by_themselves(compose: dict[str, Any]) -> None:
    restarts = {name: service["restart"] for name, service in compose["services"].items()}
    assert restarts.pop("tools") == "no"
    assert set(restarts.values()) == {"unless-stopped"}


def test_ports_are_published_on_loopback_only(service: dict[str, Any]) -> None:
    for port in service.get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\$\{[A-Z]+_PORT:-\d+\}:\d+", port)


def test_databases_have_no_way_in_or_out_of_the_inner_network(compose: dict[str, Any]) -> None:
    assert compose["networks"]["back"] == {"internal": True}
    for name in ("redis", "postgres", "worker"):
        assert compose["services"][name]["networks"] == ["back"]
        assert "ports" not in compose["services"][name]


def test_dependencies_are_waited_for_until_healthy(service: dict[str, Any], compose: dict[str, Any]) -> None:
    for name, dependency in service.get("depends_on", {}).items():
        assert dependency == {"condition": "service_healthy"}
        assert "healthcheck" in compose["services"][name]


def test_no_secret_has_a_value_or_a_default(compose: dict[str, Any]) -> None:
    secrets = 0
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|KEY|REDISCLI_AUTH", name):
                assert VARIABLE_WITHOUT_DEFAULT.fullmatch(value), name
                secrets += 1
            for password in re.findall(r"://[^/@:]*:(.*)@", str(value)):
                assert VARIABLE_WITHOUT_DEFAULT.fullmatch(password), name
                secrets += 1
    assert secrets >= 8  # the rule has something to look at


def test_the_detector_holds_no_password_of_a_database(compose: dict[str, Any]) -> None:
    for name in ("detector", "detector-gpu"):
        environment = compose["services"][name]["environment"]
        assert {key for key in environment if "URL" in key or "PASSWORD" in key} == set()


def test_one_detector_and_one_worker_per_profile_and_the_rest_in_both(compose: dict[str, Any]) -> None:
    profiles: dict[str, set[str]] = {"cpu": set(), "gpu": set(), "tools": set(), "always": set()}
    for name, service in compose["services"].items():
        for profile in service.get("profiles", ["always"]):
            profiles[profile].add(name)
    assert profiles["cpu"] == {"detector", "worker"}
    assert profiles["gpu"] == {"detector-gpu", "worker-gpu"}
    assert profiles["tools"] == {"tools"}


@pytest.mark.parametrize("role", ["detector", "worker"])
def test_the_gpu_variant_asks_for_a_gpu_and_answers_to_the_same_name(
    role: str, compose: dict[str, Any]
) -> None:
    service = compose["services"][f"{role}-gpu"]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert service["networks"]["back"]["aliases"] == [role]
    assert "deploy" not in compose["services"][role]


def test_every_named_volume_is_declared_and_used(compose: dict[str, Any]) -> None:
    used = set()
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = re.sub(r"^\$\{\w+:-(\w+)\}", r"\1", volume).split(":")[0]
            if not source.startswith("."):
                used.add(source)
    assert used == set(compose["volumes"])


def test_only_the_tools_may_change_data_sets(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        for volume in service.get("volumes", []):
            if "/var/lib/sightline/data" in volume:
                assert volume.endswith(":ro") == (name != "tools"), name


def test_files_that_are_mounted_exist(compose: dict[str, Any]) -> None:
    mounted = [
        volume.split(":")[0]
        for service in compose["services"].values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    ]
    assert mounted
    for path in mounted:
        assert (ROOT / path).exists(), path


def test_images_have_a_version(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        if "build" not in service:
            assert re.search(r":v?\d+\.?\d*", service["image"]), name
