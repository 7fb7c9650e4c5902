"""`sightline bench`: what serving costs and withstands, what a precision gains; other packages add."""

import importlib.util
from importlib.metadata import entry_points

import typer

from services.detector.cli.bench.commands.company import company
from services.detector.cli.bench.commands.overload import overload
from services.detector.cli.bench.commands.peers import peers
from services.detector.cli.bench.commands.precision import precision
from services.detector.cli.bench.commands.serving import serving
from services.detector.cli.bench.commands.streams import streams
from services.detector.cli.bench.commands.swaps import swaps
from services.detector.cli.bench.commands.tune import tune

app = typer.Typer(
    help="Measure on this machine; every comparison is interleaved within one run.", no_args_is_help=True
)
for command in (serving, overload, swaps, company, streams, precision, tune):
    app.command()(command)
app.add_typer(peers, name="peers")
# name -> function; an image without a package has none of its benchmarks.
for point in entry_points(group="sightline.bench"):
    if importlib.util.find_spec(point.module.partition(".")[0]) is not None:
        app.command(point.name)(point.load())
