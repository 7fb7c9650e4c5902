"""`sightline models`: what is in the repository, which version is live, and how to change that."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from shared.cli.console import ExitCode, err, fail, out, print_json
from shared.repository import cli_choices

app = typer.Typer(
    help="List, check, promote and remove the versions of exported models.", no_args_is_help=True
)
app.add_typer(cli_choices.app)

Root = Annotated[
    Path | None, typer.Option("--repository", help="Model repository; default SIGHTLINE_REPOSITORY_ROOT.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without this, only say what would be done.")]
Name = Annotated[str, typer.Argument(help="Name of the model.")]
Version = Annotated[str | None, typer.Argument(help="Number or alias; default: the live version.")]


def _repository(root: Path | None) -> Any:
    from shared.core.settings import CommonSettings
    from shared.repository.repository import ModelRepository

    root = root or CommonSettings().repository_root
    assert root is not None  # the settings fill it in
    return ModelRepository(root)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Leave the command with the words of a problem, and an exit code that tells its kind."""
    from shared.core.problems import Conflict, NotFound, Problem, Unavailable, UnprocessableContent

    codes = {
        NotFound: ExitCode.NOT_FOUND,
        UnprocessableContent: ExitCode.USAGE,
        Conflict: ExitCode.REFUSED,
        Unavailable: ExitCode.UNAVAILABLE,
    }
    try:
        yield
    except Problem as problem:
        code = next((code for kind, code in codes.items() if isinstance(problem, kind)), ExitCode.FAILURE)
        fail(problem.detail, code=code)
    except OSError as error:
        fail(f"the model repository cannot be used: {error}")


@app.command("list")
def list_models(repository: Root = None, as_json: AsJson = False) -> None:
    """List every version of every model with its aliases and metrics."""
    with _explained():
        rows = _rows(_repository(repository))
    if as_json:
        print_json(rows)
        return
    if not rows:
        err.print("no models yet; `sightline export RUN` makes one")
        return
    from rich.table import Table

    table = Table(
        "model", "version", "aliases", "family", "precision", "input", "AP", "AP50", "size", "created"
    )
    for row in rows:
        table.add_row(*(str(row[key]) if row[key] is not None else "–" for key in _COLUMNS))
    out.print(table)


_COLUMNS = (
    "name",
    "version",
    "aliases",
    "family",
    "precision",
    "input",
    "ap",
    "ap50",
    "megabytes",
    "created_at",
)


def _rows(repository: Any) -> list[dict[str, Any]]:
    rows = []
    for name in repository.models():
        aliases = repository.aliases(name)
        for version in repository.versions(name):
            manifest = repository.manifest(name, version)
            after = manifest.metrics.after
            rows.append(
                {
                    "name": name,
                    "version": version,
                    "aliases": ", ".join(
                        sorted(alias for alias, number in aliases.items() if number == version)
                    ),
                    "family": manifest.family,
                    "precision": manifest.precision + (" end-to-end" if manifest.end_to_end else ""),
                    "input": f"{manifest.preprocessing.width}×{manifest.preprocessing.height}",
                    "ap": round(after["ap"], 4) if "ap" in after else None,
                    "ap50": round(after["ap50"], 4) if "ap50" in after else None,
                    "megabytes": f"{sum(entry.bytes for entry in manifest.files.values()) / 1e6:.1f} MB",
                    "created_at": manifest.created_at.isoformat(),
                }
            )
    return rows


@app.command()
def show(name: Name, version: Version = None, repository: Root = None, as_json: AsJson = False) -> None:
    """Show the manifest of a version."""
    with _explained():
        models = _repository(repository)
        manifest = models.manifest(name, models.resolve(name, version))
        aliases = models.aliases(name)
    document = manifest.model_dump(mode="json")
    if as_json:
        print_json(document | {"aliases": aliases})
        return
    out.print(f"[bold]{name}[/] version {manifest.version}, aliases of the model: {aliases or 'none'}")
    out.print_json(data=document)


@app.command()
def verify(
    name: Annotated[str | None, typer.Argument(help="Name of the model; default: all.")] = None,
    version: Annotated[str | None, typer.Argument(help="Number or alias; default: all.")] = None,
    repository: Root = None,
    as_json: AsJson = False,
) -> None:
    """Compare every file with the SHA-256 in its manifest."""
    from shared.repository.problems import CorruptVersion, UnsupportedManifest

    results: list[dict[str, Any]] = []
    with _explained():
        models = _repository(repository)
        for model in [name] if name else models.models():
            for number in [models.resolve(model, version)] if version else models.versions(model):
                problem = None
                try:
                    models.verify(model, number)
                except (CorruptVersion, UnsupportedManifest) as error:
                    problem = error.detail
                results.append({"name": model, "version": number, "ok": problem is None, "problem": problem})
    corrupt = [result for result in results if not result["ok"]]
    if as_json:
        print_json(results)
    else:
        for result in results:
            mark = "[green]ok[/]" if result["ok"] else f"[red]corrupt[/] {result['problem']}"
            out.print(f"{result['name']} {result['version']}: {mark}", soft_wrap=True)
    if corrupt:
        fail(
            f"{len(corrupt)} of {len(results)} versions are corrupt", hint="export them again, or remove them"
        )


@app.command()
def promote(
    name: Name,
    version: Annotated[str, typer.Argument(help="Number or alias of the version to make live.")],
    repository: Root = None,
    as_json: AsJson = False,
) -> None:
    """Make a version live; the one that was live becomes `previous`."""
    with _explained():
        models = _repository(repository)
        models.promote(name, models.resolve(name, version))
        _show_aliases(name, models.aliases(name), as_json)


@app.command()
def rollback(name: Name, repository: Root = None, as_json: AsJson = False) -> None:
    """Exchange `live` and `previous`."""
    with _explained():
        models = _repository(repository)
        models.rollback(name)
        _show_aliases(name, models.aliases(name), as_json)


@app.command()
def alias(
    name: Name,
    alias: Annotated[str, typer.Argument(help="Name of the alias.")],
    version: Annotated[str | None, typer.Argument(help="Number or alias of the version.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the alias; versions stay.")] = False,
    repository: Root = None,
    as_json: AsJson = False,
) -> None:
    """Let an alias name a version, or remove it."""
    if (version is None) != delete:
        fail("give a version to point the alias at, or --delete", code=ExitCode.USAGE)
    with _explained():
        models = _repository(repository)
        models.set_alias(name, alias, None if version is None else models.resolve(name, version))
        _show_aliases(name, models.aliases(name), as_json)


def _show_aliases(name: str, aliases: dict[str, int], as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "aliases": aliases})
    else:
        listed = ", ".join(f"{alias} = version {version}" for alias, version in sorted(aliases.items()))
        out.print(f"{name}: {listed or 'no aliases'}")


@app.command()
def remove(
    name: Name,
    version: Annotated[str, typer.Argument(help="Number of the version.")],
    yes: Yes = False,
    repository: Root = None,
    as_json: AsJson = False,
) -> None:
    """Delete a version that no alias names. Says what it would do unless --yes is given."""
    with _explained():
        models = _repository(repository)
        number = models.resolve(name, version)
        aliases = [alias for alias, target in models.aliases(name).items() if target == number]
        path = models.path(name, number)
        if yes:
            models.remove(name, number)
    if as_json:
        print_json({"name": name, "version": number, "path": path, "aliases": aliases, "removed": yes})
    elif yes:
        out.print(f"removed {path}", soft_wrap=True)
    elif aliases:
        out.print(f"would be refused: {name} version {number} is {' and '.join(aliases)}", soft_wrap=True)
    else:
        out.print(f"would remove {path}; add --yes to do it", soft_wrap=True)


@app.command()
def clean(
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go (the default).")] = False,
    repository: Root = None,
    as_json: AsJson = False,
) -> None:
    """Remove what crashed writers left behind. Says what it would do unless --yes is given."""
    from shared.repository import leftovers

    if yes and dry_run:
        fail("--yes and --dry-run contradict each other; give one of them", code=ExitCode.USAGE)
    with _explained():
        paths = leftovers.clean(_repository(repository), dry_run=not yes)
    if as_json:
        print_json({"paths": paths, "removed": yes})
        return
    for path in paths:
        out.print(f"{'removed' if yes else 'would remove'} {path}", soft_wrap=True)
    out.print("nothing to clean" if not paths else "" if yes else "add --yes to do it")
