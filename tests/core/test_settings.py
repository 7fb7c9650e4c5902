from pathlib import Path

import pytest

from shared.core.settings import CommonSettings


def test_unset_paths_follow_the_var_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIGHTLINE_VAR_DIR", str(tmp_path))
    settings = CommonSettings()
    assert settings.runs_root == tmp_path / "runs"
    assert settings.repository_root == tmp_path / "repository"
    assert settings.database_url == f"sqlite:///{tmp_path}/sightline.db"
    assert settings.mlflow_uri == f"sqlite:///{tmp_path}/mlflow.db"


def test_paths_are_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert CommonSettings(runs_root="somewhere").runs_root == tmp_path / "somewhere"


def test_an_empty_tracking_address_turns_tracking_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_MLFLOW_URI", "")
    assert CommonSettings().mlflow_uri == ""


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_a_plain_postgresql_address_gets_the_driver_that_is_installed(scheme: str) -> None:
    settings = CommonSettings(database_url=f"{scheme}://u:p@db:5432/s")
    assert settings.database_url == "postgresql+pg8000://u:p@db:5432/s"


def test_keys_are_separated_by_commas_and_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGHTLINE_API_KEYS", "first, second,,")
    settings = CommonSettings()
    assert [key.get_secret_value() for key in settings.api_keys] == ["first", "second"]
    assert "first" not in repr(settings)


def test_the_broker_is_embedded_unless_another_is_named() -> None:
    assert CommonSettings().redis_is_embedded
    assert CommonSettings(embedded_redis_port=7000).redis_url == "redis://127.0.0.1:7000/0"
    assert not CommonSettings(redis_url="redis://redis:6379/0").redis_is_embedded
