"""`sightline models families|architectures|losses|augmentations`: what a run can choose by name."""

from importlib import import_module
from typing import Annotated

import typer

from shared.cli.console import out, print_json
from shared.core.registry import Registry

app = typer.Typer()

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.command()
def families(as_json: AsJson = False) -> None:
    """List the families of models that can be trained and exported, with their recipes."""
    from shared.families.registry import config_class, family_names, family_task, recipes_dir

    rows = [
        {
            "family": name,
            "task": family_task(name),
            "about": _about(config_class(name).__module__.rpartition(".")[0]),
            "recipes": sorted(path.stem for path in recipes_dir(name).glob("*.yaml")),
        }
        for name in family_names()
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        recipes = ", ".join(row["recipes"]) or "none"
        out.print(f"[bold]{row['family']}[/] ({row['task']}): {row['about']} (recipes: {recipes})")


@app.command()
def architectures(as_json: AsJson = False) -> None:
    """List the networks: `model.architecture=NAME` where a family has a choice."""
    from shared.models.architectures import ARCHITECTURES

    _print(ARCHITECTURES, as_json)


@app.command()
def losses(as_json: AsJson = False) -> None:
    """List the losses: `model.loss=NAME` in classification, `model.size_loss=NAME` in detection."""
    from shared.losses.registry import LOSSES

    _print(LOSSES, as_json)


@app.command()
def augmentations(as_json: AsJson = False) -> None:
    """List the random changes of training pictures: `augmentation.NAME=PROBABILITY`."""
    from shared.data.transforms.registry import AUGMENTATIONS

    _print(AUGMENTATIONS, as_json)


def _print(registry: Registry, as_json: bool) -> None:
    if as_json:
        print_json(registry.rows())
        return
    from rich.table import Table

    table = Table(registry.kind, "task", "what it is")
    for row in registry.rows():
        table.add_row(row["name"], row["task"] or "every", row["summary"])
    out.print(table)


def _about(package: str) -> str:
    """Return the first sentence of a family's package, without the name that it opens with."""
    first_line = (import_module(package).__doc__ or "").strip().partition("\n")[0]
    return first_line.partition(". ")[0].rpartition(": ")[2].rstrip(".")
