"""`sightline data`: check, make, divide and look at labelled pictures. Heavy imports wait for the command."""

import typer

from shared.data.cli import inspect, make

app = typer.Typer(no_args_is_help=True, help="Check, make, divide and look at labelled pictures.")
app.command()(inspect.check)
app.add_typer(make.app, name="make")
app.command()(inspect.preview)
