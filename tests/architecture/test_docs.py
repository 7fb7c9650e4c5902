"""What the manual says is there, and what is there the manual says."""

import re
from importlib import import_module
from pathlib import Path

import pytest
from pydantic_settings import BaseSettings

ROOT = Path(__file__).parents[2]
SETTINGS = [
    "shared.core.settings:CommonSettings",
    "services.detector.settings:DetectorSettings",
    "services.jobs.settings:JobsServiceSettings",
    "services.export.settings:ExportSettings",
    "shared.jobs.settings:JobQueueSettings",
    "training.worker:WorkerSettings",
]


def settings_class(path: str) -> type[BaseSettings]:
    module, _, name = path.partition(":")
    loaded: type[BaseSettings] = getattr(import_module(module), name)
    return loaded


@pytest.mark.parametrize("path", SETTINGS)
def test_every_setting_is_in_the_manual_with_its_description(path: str) -> None:
    manual = (ROOT / "docs" / "settings.md").read_text()
    settings = settings_class(path)
    prefix = settings.model_config["env_prefix"]
    for name, field in settings.model_fields.items():
        assert f"`{prefix}{name.upper()}`" in manual, f"{prefix}{name.upper()} is not in docs/settings.md"
        assert field.description, f"{path} {name} has no description"


@pytest.mark.parametrize("document", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/**/*.md")))
def test_every_link_to_a_file_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_python_of_the_readme_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        scope: dict[str, object] = {}
        exec(block, scope)
        assert "network" in scope
