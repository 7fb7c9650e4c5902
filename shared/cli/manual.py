"""Writes docs/cli.md and docs/settings.md from the code they describe: `python -m shared.cli.manual`."""

from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import typer
from pydantic import SecretStr
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings
from typer.cli import get_docs_for_click

from shared.cli.console import ExitCode
from shared.cli.main import GROUP, build_app
from shared.core.files import write_atomic

SETTINGS = {
    "Everywhere": "shared.core.settings:CommonSettings",
    "Detector": "services.detector.settings:DetectorSettings",
    "Jobs": "services.jobs.settings:JobsServiceSettings",
    "Queue": "shared.jobs.settings:QueueSettings",
    "Worker": "training.worker:WorkerSettings",
    "Export": "services.export.settings:ExportServiceSettings",
}
DOCS = Path(__file__).parents[2] / "docs"


def cli_page() -> str:
    """Return docs/cli.md: every command with its arguments and options, and the exit codes."""
    points = list(entry_points(group=GROUP))
    command = typer.main.get_command(build_app(points))
    context = typer.Context(command)
    _give_whole_summaries(command, context)
    pages = get_docs_for_click(obj=command, ctx=context, name="sightline", title="The command line")
    codes = "\n".join(f"| {code.value} | {code.name.lower().replace('_', ' ')} |" for code in ExitCode)
    codes += "\n| 130 | interrupted |"
    return f"{pages.rstrip()}\n\n## Exit codes\n\n| code | meaning |\n|---|---|\n{codes}\n"


def _give_whole_summaries(command: Any, context: typer.Context) -> None:
    """Keep lists of commands from cutting the first sentence short, as a terminal has to."""
    for name in getattr(command, "list_commands", lambda _: [])(context):
        member = command.get_command(context, name)
        member.short_help = (member.help or "").partition("\n\n")[0].replace("\n", " ")
        _give_whole_summaries(member, context)


def settings_page() -> str:
    """Return docs/settings.md: every environment variable with its default and its description."""
    lines = [
        "# Settings",
        "",
        "Every setting is an environment variable; a service reads them once, at its start.",
        "The detector also reads `detector.env` in `SIGHTLINE_VAR_DIR`, beneath its variables; "
        "`sightline bench tune` writes it.",
    ]
    for title, path in SETTINGS.items():
        lines += ["", f"## {title}", "", "| variable | default | what it is |", "|---|---|---|"]
        lines += [
            f"| `{name}` | {default} | {text} |" for name, default, text in setting_rows(load_settings(path))
        ]
    return "\n".join(lines) + "\n"


def load_settings(path: str) -> type[BaseSettings]:
    module, _, name = path.partition(":")
    loaded: type[BaseSettings] = getattr(import_module(module), name)
    return loaded


def setting_rows(settings: type[BaseSettings]) -> Iterator[tuple[str, str, str]]:
    prefix = settings.model_config["env_prefix"]
    for name, field in settings.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        yield f"{prefix}{name}".upper(), _shown(default), " ".join((field.description or "").split())


def _shown(default: Any) -> str:
    if default in (None, "", [], PydanticUndefined) or isinstance(default, SecretStr):
        return ""
    if isinstance(default, list):
        default = ",".join(map(str, default))  # as the variable is written
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


PAGES = {"cli.md": cli_page, "settings.md": settings_page}


def main() -> None:
    """Write every page."""
    for name, page in PAGES.items():
        write_atomic(DOCS / name, page())


if __name__ == "__main__":
    main()
