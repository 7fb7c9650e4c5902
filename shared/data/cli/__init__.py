"""`sightline data`: check, count, look at, divide, cut and make labelled pictures.

Heavy imports wait for the command that needs them.
"""

import typer

from shared.data.cli import divide, inspect, make
from shared.data.events.cli.make import events as make_events
from shared.data.events.cli.overview import events
from shared.data.events.cli.preprocess import preprocess

app = typer.Typer(no_args_is_help=True, help="Check, make, divide and look at labelled pictures.")
app.command()(inspect.check)
app.command()(inspect.stats)
app.command()(inspect.preview)
app.command()(divide.split)
app.command()(divide.tiles)
app.command("preprocess")(preprocess)
app.command("events")(events)
make.app.command("events")(make_events)
app.add_typer(make.app, name="make")
