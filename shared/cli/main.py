"""The `sightline` command, put together from the entry points of the packages that are installed.

Only the sub-command that was asked for is imported; `--help` imports them all, which is why their modules
keep heavy imports inside their functions.
"""

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points, version
from typing import Annotated

import typer

from shared.cli.console import ExitCode, fail

GROUP = "sightline.commands"
# In the order of the work; what a package adds that is not named here comes last.
ORDER = (
    "demo",
    "up",
    "data",
    "train",
    "sweep",
    "import",
    "jobs",
    "export",
    "models",
    "predict",
    "bench",
    "doctor",
)


def main() -> None:
    """Run the command line and leave the process with its exit code."""
    commands = {point.name: point for point in entry_points(group=GROUP)}
    asked_for = next((word for word in sys.argv[1:] if not word.startswith("-")), None)
    wanted = [commands[asked_for]] if asked_for in commands else list(commands.values())
    build_app(wanted)()


def build_app(points: list[EntryPoint]) -> typer.Typer:
    """Return the application with a sub-command for every entry point."""
    app = typer.Typer(
        name="sightline",
        help="From labelled pictures to a monitored vision endpoint: train, export, serve.",
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_show_locals=False,  # they would print keys
    )
    app.callback()(_root)
    places = {name: place for place, name in enumerate(ORDER)}
    for point in sorted(points, key=lambda point: (places.get(point.name, len(ORDER)), point.name)):
        try:
            command: typer.Typer | Callable[..., object] = point.load()
        except ModuleNotFoundError as error:
            # It takes any words, so that the answer is about the package and not about them.
            anything = {"allow_extra_args": True, "ignore_unknown_options": True}
            placeholder = _not_installed(point.name, error.name or str(error))
            app.command(point.name, context_settings=anything)(placeholder)
            continue
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=point.name)
        else:
            app.command(point.name)(command)
    return app


def _not_installed(name: str, module: str) -> Callable[..., object]:
    def command() -> None:
        fail(
            f"`sightline {name}` needs the Python package {module!r}, which is not installed here",
            hint="run `make setup`, or `pip install 'sightline[all]'`",
            code=ExitCode.UNAVAILABLE,
        )

    command.__doc__ = f"Not installed here: needs {module}."
    return command


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"sightline {version('sightline')}")
        raise typer.Exit


def _root(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


if __name__ == "__main__":
    main()
