"""How commands speak: results on stdout, everything else on stderr, one meaning per exit code."""

import sys
from enum import IntEnum
from typing import Any, NoReturn

import orjson
import typer
from rich.console import Console
from rich.markup import escape

# Results go to `out`, so that they can be piped; progress, messages and errors go to `err`.
# What goes into a pipe or a file is not cut to the width of a terminal that is not there.
_PIPED_COLUMNS = 200
out = Console(width=None if sys.stdout.isatty() else _PIPED_COLUMNS)
err = Console(stderr=True, width=None if sys.stderr.isatty() else _PIPED_COLUMNS)


class ExitCode(IntEnum):
    """Exit codes of every command, listed in docs/cli.md."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    UNAVAILABLE = 4  # a service, or a package this command needs, is not there
    REFUSED = 5  # the gate or the data check said no
    CANCELLED = 6


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    typer.echo(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY, default=str))


def fail(message: str, *, hint: str | None = None, code: ExitCode = ExitCode.FAILURE) -> NoReturn:
    """Print what was wrong and what to do about it, and leave the command."""
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)
    if hint:
        err.print(f"[bold]hint:[/] {escape(hint)}", soft_wrap=True, highlight=False)
    raise typer.Exit(code)
