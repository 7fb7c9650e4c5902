"""`sightline import`: networks that were trained elsewhere, as run folders."""

import typer

from shared.families.events.cli import events

app = typer.Typer(no_args_is_help=True, help="Make runs of networks that were trained elsewhere.")


@app.callback()
def _group() -> None:
    """Typer leaves out the command's own name where there is only one and no callback."""


app.command("events")(events)
