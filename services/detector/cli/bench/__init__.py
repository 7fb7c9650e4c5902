"""`sightline bench`: what serving costs, and what a precision gains. Other packages may add to the group."""

from importlib.metadata import entry_points

import typer

from services.detector.cli.bench.commands import precision, serving

app = typer.Typer(
    help="Measure on this machine; every comparison is interleaved within one run.", no_args_is_help=True
)
app.command("serving")(serving)
app.command("precision")(precision)
# name -> function, as in the group `sightline.commands`; a package that is not installed adds nothing.
for point in entry_points(group="sightline.bench"):
    app.command(point.name)(point.load())
