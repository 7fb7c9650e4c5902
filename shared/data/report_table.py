"""The dataset check as tables on a terminal."""

from rich.markup import escape
from rich.table import Table

from shared.cli.console import out
from shared.data.report import (
    DataReport,
    LabelledDataReport,
    LabelledSplitReport,
    Report,
    SplitReport,
    Spread,
)

_COLOURS = {"error": "bold red", "warning": "yellow", "note": "dim"}
_COMBINATIONS = 16
_EXAMPLES = 5  # of each kind; all of them are in the JSON


def show_report(report: DataReport, *, verdict: bool = True) -> None:
    """Print counts, classes and box sizes, and with `verdict` the defects and what they come to."""
    out.print(_splits(report))
    for split in report.splits:
        out.print(_classes(split))
    if verdict:
        _show_verdict(report)


def show_labelled_report(report: LabelledDataReport, *, verdict: bool = True) -> None:
    """Print counts per split and class and what occurs together, and with `verdict` as `show_report`."""
    out.print(_labelled_splits(report))
    for split in report.splits:
        out.print(_labels(split))
        if len(split.combinations) > 1:
            out.print(_combinations(split))
    if verdict:
        _show_verdict(report)


def _show_verdict(report: Report) -> None:
    if report.defects:
        out.print(_defects(report))
    word = "[bold green]fine[/]" if report.ok else "[bold red]not fine[/]"
    out.print(f"{word}: {report.errors} errors, {report.warnings} warnings, {report.notes} notes")


def _labelled_splits(report: LabelledDataReport) -> Table:
    table = Table(title=f"{escape(report.source)} ({report.format})", title_justify="left")
    for heading in ("split", "images", "without labels", "share", "groups", "unlabelled", "image sizes"):
        table.add_column(heading)
    for split in report.splits:
        table.add_row(
            escape(split.name) or "all",
            str(split.images),
            str(split.images_without_labels),
            f"{split.images_without_labels / max(1, split.images):.1%}",
            str(split.groups),
            str(split.unlabelled),
            _image_sizes(split),
        )
    return table


def _labels(split: LabelledSplitReport) -> Table:
    table = Table(title=f"classes of {escape(split.name) or 'all'}", title_justify="left")
    for heading in ("class", "images", "share"):
        table.add_column(heading)
    for entry in split.classes:
        table.add_row(escape(entry.name), str(entry.images), f"{entry.share:.1%}")
    return table


def _combinations(split: LabelledSplitReport) -> Table:
    table = Table(title=f"classes together in {escape(split.name) or 'all'}", title_justify="left")
    for heading in ("classes", "images"):
        table.add_column(heading)
    shown = list(split.combinations.items())[:_COMBINATIONS]
    for names, count in shown:
        table.add_row(escape(names) or "none", str(count))
    more = len(split.combinations) - len(shown)
    if more > 0:
        table.add_row(f"[dim]and {more} more, see --json[/]", "")
    return table


def _splits(report: DataReport) -> Table:
    table = Table(title=f"{escape(report.source)} ({report.format})", title_justify="left")
    for heading in (
        "split",
        "images",
        "without boxes",
        "boxes",
        "crowd",
        "image sizes",
        "small/medium/large",
    ):
        table.add_column(heading)
    table.add_column("box height px")
    table.add_column("of image height")
    for split in report.splits:
        sizes = split.box_sizes
        table.add_row(
            escape(split.name) or "all",
            str(split.images),
            str(split.images_without_boxes),
            str(split.boxes),
            str(split.crowd_boxes),
            _image_sizes(split),
            f"{sizes.small}/{sizes.medium}/{sizes.large}" if sizes else "",
            _spread(sizes.height_px) if sizes else "",
            _spread(sizes.relative_height) if sizes else "",
        )
    return table


def _image_sizes(split: SplitReport | LabelledSplitReport) -> str:
    shown = [f"{size} ({count})" for size, count in list(split.image_sizes.items())[:3]]
    more = len(split.image_sizes) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _spread(spread: Spread) -> str:
    return f"{spread.min:.3g} | {spread.median:.3g} | {spread.max:.3g}"


def _classes(split: SplitReport) -> Table:
    table = Table(title=f"classes of {escape(split.name) or 'all'}", title_justify="left")
    for heading in ("class", "boxes", "share", "images"):
        table.add_column(heading)
    for entry in sorted(split.classes, key=lambda entry: -entry.boxes):
        if entry.boxes:
            share = entry.boxes / split.boxes
            table.add_row(escape(entry.name), str(entry.boxes), f"{share:.1%}", str(entry.images))
    absent = sum(entry.boxes == 0 for entry in split.classes)
    if absent:
        table.add_row(f"[dim]{absent} classes without boxes[/]", "0", "", "0")
    return table


def _defects(report: Report) -> Table:
    table = Table(title="defects", title_justify="left")
    for heading in ("severity", "defect", "count", "where", "detail"):
        table.add_column(heading, overflow="fold")
    for code, count in report.defect_counts.items():
        found = [defect for defect in report.defects if defect.code == code]
        for number, defect in enumerate(found[:_EXAMPLES]):
            colour = _COLOURS[defect.severity]
            table.add_row(
                f"[{colour}]{defect.severity}[/]" if number == 0 else "",
                code if number == 0 else "",
                str(count) if number == 0 else "",
                escape("/".join(filter(None, [defect.split, defect.where]))),
                escape(defect.detail),
            )
        if count > _EXAMPLES:
            table.add_row("", "", "", f"[dim]and {count - _EXAMPLES} more, see --json[/]", "")
    return table
