import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def make_env(target: Path) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(ROOT / "docker" / "make-env.sh"), str(target)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)


def values(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_it_writes_different_secrets_that_only_the_owner_can_read(tmp_path: Path) -> None:
    assert make_env(tmp_path / "a").returncode == 0
    assert make_env(tmp_path / "b").returncode == 0
    first, second = values(tmp_path / "a"), values(tmp_path / "b")
    secrets = [name for name, value in values(ROOT / ".env.example").items() if value == ""]
    assert len(secrets) == 4
    generated = [first[name] for name in secrets] + [second[name] for name in secrets]
    assert len(set(generated)) == len(generated)
    assert all(re.fullmatch(r"[0-9a-f]{48}", value) for value in generated)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600


def test_it_never_replaces_a_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("POSTGRES_PASSWORD=mine\n")
    result = make_env(tmp_path / ".env")
    assert result.returncode == 1
    assert "exists" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [".env"]
    assert (tmp_path / ".env").read_text() == "POSTGRES_PASSWORD=mine\n"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    assert make_env(tmp_path / "missing" / ".env").returncode != 0


def test_every_variable_of_the_compose_file_is_described_in_the_example() -> None:
    used = set(re.findall(r"\$\{(\w+)[:}]", (ROOT / "docker-compose.yml").read_text()))
    described = set(re.findall(r"^#?(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert used == described - {"COMPOSE_PROFILES"}


@pytest.mark.parametrize("name", ["SIGHTLINE_API_KEYS", "POSTGRES_PASSWORD", "REDIS_PASSWORD"])
def test_the_example_holds_no_secret(name: str) -> None:
    assert values(ROOT / ".env.example")[name] == ""


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_env_runs_it_and_builds_nothing_first() -> None:
    command = ["make", "--dry-run", "--no-print-directory", "env"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, timeout=20)
    assert result.stdout == "docker/make-env.sh\n"
    assert os.access(ROOT / "docker" / "make-env.sh", os.X_OK)
