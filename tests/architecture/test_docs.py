"""What the manual says is there, and what is there the manual says."""

import re
from pathlib import Path

import pytest
from pydantic import Field
from pydantic_settings import BaseSettings

from shared.cli.manual import PAGES, SETTINGS, load_settings, setting_rows

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_made_from_the_code_are_up_to_date(name: str) -> None:
    written = (ROOT / "docs" / name).read_text()
    assert written == PAGES[name](), "run `python -m shared.cli.manual`"


@pytest.mark.parametrize("path", SETTINGS.values())
def test_every_setting_has_a_description(path: str) -> None:
    rows = list(setting_rows(load_settings(path)))
    assert rows
    assert all(description for _, _, description in rows)


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


def test_defaults_are_shown_as_a_variable_would_be_written() -> None:
    class Example(BaseSettings):
        names: list[str] = Field(["live", "next"], description="Names.")
        flag: bool = Field(False, description="Flag.")
        nothing: list[str] = Field([], description="None.")

    assert [default for _, default, _ in setting_rows(Example)] == ["`live,next`", "`false`", ""]
