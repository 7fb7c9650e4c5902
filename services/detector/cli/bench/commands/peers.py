"""`sightline bench peers`."""

from typing import Annotated

import typer
from rich.table import Table

from services.detector.cli.bench.commands.options import environments_folder
from services.detector.cli.bench.environments import NotInstalled, install, why_not_usable
from services.detector.cli.bench.peers.catalogue import PEERS
from shared.cli.console import ExitCode, err, fail, out

peers = typer.Typer(help="The servers that `sightline bench serving` compares with.", no_args_is_help=True)


@peers.command("install")
def install_peers(
    names: Annotated[list[str] | None, typer.Argument(help="Which; default: all.")] = None,
) -> None:
    """Build a virtual environment for each under <var>/bench, with pinned packages.

    What is there stays; what was interrupted goes on.
    """
    if unknown := sorted(set(names or ()) - set(PEERS)):
        fail(f"unknown: {', '.join(unknown)}", hint=f"one of {', '.join(PEERS)}", code=ExitCode.USAGE)
    failed = False
    for peer in PEERS.values():
        if names and peer.name not in names:
            continue
        try:
            with err.status(f"installing {peer.title} …"):
                new = install(peer, environments_folder())
        except NotInstalled as error:
            failed = True
            err.print(f"[bold red]error:[/] {error}", soft_wrap=True, highlight=False, markup=True)
            continue
        err.print(f"{peer.title}: {'installed' if new else 'there'}", highlight=False)
    if failed:
        raise typer.Exit(ExitCode.FAILURE)


@peers.command("list")
def list_peers() -> None:
    """Show which are installed."""
    table = Table("name", "server", "state", box=None, pad_edge=False)
    for peer in PEERS.values():
        table.add_row(peer.name, peer.title, why_not_usable(peer, environments_folder()) or "installed")
    out.print(table)
