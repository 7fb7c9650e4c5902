"""`sightline bench`: what serving costs, and what a precision gains. Other packages may add to the group."""

import importlib.util
from importlib.metadata import entry_points

import typer

from services.detector.cli.bench.commands import precision, serving

app = typer.Typer(
    help="Measure on this machine; every comparison is interleaved within one run.", no_args_is_help=True
)
app.command("serving")(serving)
app.command("precision")(precision)
# name -> function; an image without a package has none of its benchmarks.
for point in entry_points(group="sightline.bench"):
    if importlib.util.find_spec(point.module.partition(".")[0]) is not None:
        app.command(point.name)(point.load())
