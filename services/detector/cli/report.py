"""What a prediction run tells: progress while it works, a summary and a list of problems at its end."""

import contextlib
import csv
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from services.detector.cli.annotate import SourceResult
from services.detector.cli.predictors import Predictor
from services.detector.cli.sources import Kind, Source, SourceProblem
from shared.cli.console import err, out, print_json
from shared.core.files import write_atomic

if TYPE_CHECKING:
    from services.detector.cli.streams import StreamPredictor

SUMMARY_FILE = "summary.json"
TABLE_FILE = "labels.csv"
# What is counted of each kind of source.
_UNITS: dict[Kind, str] = {"picture": "pictures", "video": "frames", "recording": "windows"}


class _Speed(ProgressColumn):
    """Pictures, frames or windows per second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s", style="progress.data.speed")


class RunProgress:
    """The bars of one run: one for all pictures, one for each video and recording."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars

    def pictures(self, total: int) -> Callable[[], None]:
        """Return what to call after each of `total` pictures."""
        task = self._bars.add_task("pictures", total=total, visible=total > 0)
        return lambda: self._bars.advance(task)

    def frames_of(self, source: Source) -> Callable[[int | None], None]:
        """Return what to call after each frame or window of a source, with the number expected in all."""
        task = self._bars.add_task(escape(source.path.name), total=None)

        def on_frame(expected: int | None) -> None:
            self._bars.update(task, advance=1, total=expected)

        return on_frame


class RunReport:
    """Collects results and problems; `finish` shows them and writes summary.json beside the results."""

    def __init__(self, problems: list[SourceProblem]) -> None:
        self.problems = list(problems)
        self._results: list[SourceResult] = []
        self._predictor: Predictor | StreamPredictor | None = None
        self._folder: Path | None = None
        self._documents = False
        self._started = time.perf_counter()

    def start(self, predictor: "Predictor | StreamPredictor", folder: Path, *, documents: bool) -> None:
        """Name the predictor, the folder and whether documents are wanted; begin to count the time."""
        self._predictor, self._folder, self._documents = predictor, folder, documents
        self._started = time.perf_counter()

    @contextlib.contextmanager
    def progress(self) -> Iterator[RunProgress]:
        """Show bars on stderr while the block runs; nothing where that is no terminal."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            _Speed(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=err, disable=not err.is_terminal) as bars:
            yield RunProgress(bars)

    def add(self, result: SourceResult | SourceProblem) -> None:
        if isinstance(result, SourceProblem):
            self.problems.append(result)
        else:
            self._results.append(result)

    def finish(self, *, json_: bool) -> None:
        """Write summary.json and show the summary, as JSON on stdout or for people."""
        summary = self._summary()
        if self._folder is not None:
            lean = summary | {
                "results": [
                    {name: value for name, value in result.items() if name != self._finds}
                    for result in summary["results"]
                ]
            }
            text = orjson.dumps(lean, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
            try:
                write_atomic(self._folder / SUMMARY_FILE, text)
            except OSError as error:  # a full disk must not keep the summary from the screen too
                self.problems.append(SourceProblem(SUMMARY_FILE, str(error)))
            self._write_table()
        if json_:
            print_json(summary)
        else:
            self._show(summary)

    @property
    def _finds(self) -> str:
        return self._predictor.finds if self._predictor is not None else "detections"

    def _labelled(self) -> list[dict[str, Any]]:
        """Return the documents of pictures that were labelled as a whole."""
        documents = [result.document for result in self._results if result.document is not None]
        return [document for document in documents if "labels" in document]

    def _write_table(self) -> None:
        """Write labels.csv, where pictures were labelled: a row for each, a column for each label."""
        documents = self._labelled()
        if not documents or not self._documents or self._folder is None:
            return
        names = [label["label"] for label in documents[0]["labels"]]
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["source", "version", "present", *names])
        for document in documents:
            present = " ".join(label["label"] for label in document["labels"] if label["present"])
            probabilities = [label["probability"] for label in document["labels"]]
            writer.writerow([document["source"], document["version"], present, *probabilities])
        try:
            write_atomic(self._folder / TABLE_FILE, text.getvalue().encode())
        except OSError as error:
            self.problems.append(SourceProblem(TABLE_FILE, str(error)))

    def _summary(self) -> dict[str, Any]:
        seconds = time.perf_counter() - self._started
        counts = {
            unit: sum(result.images for result in self._results if result.source.kind == kind)
            for kind, unit in _UNITS.items()
        }
        return {
            "model": self._predictor and self._predictor.model,
            "predicted_by": self._predictor and self._predictor.source,
            "out": self._folder and str(self._folder),
            **counts,
            self._finds: sum(result.found for result in self._results),
            "seconds": round(seconds, 3),
            "images_per_s": round(sum(counts.values()) / seconds, 2),
            "results": [_describe(result, self._finds) for result in self._results],
            "problems": [{"source": problem.source, "reason": problem.reason} for problem in self.problems],
        }

    def _show(self, summary: dict[str, Any]) -> None:
        for result in self._results:
            if result.warning:
                err.print(f"[yellow]warning:[/] {escape(str(result.source.path))}: {escape(result.warning)}")
        for document in self._labelled():
            line = f"{document['source']}: {_labels_in_words(document['labels'])}"
            out.print(escape(line), highlight=False, soft_wrap=True)
        if self._predictor is not None:
            counts = [
                f"{summary[kind]:,} {kind if summary[kind] != 1 else kind[:-1]}"
                for kind in _UNITS.values()
                if summary[kind]
            ]
            unit = next((unit for unit in reversed(_UNITS.values()) if summary[unit]), "pictures")
            out.print(
                f"{' and '.join(counts) or 'nothing'}, {summary[self._finds]:,} {self._finds} "
                f"in {summary['seconds']:.1f} s ({summary['images_per_s']:.1f} {unit} per second) "
                f"with {escape(summary['model'])} from {escape(summary['predicted_by'])}",
                highlight=False,
                soft_wrap=True,
            )
            out.print(f"results: {escape(str(self._folder))}", highlight=False, soft_wrap=True)
        for problem in self.problems:
            err.print(
                f"[bold red]error:[/] {escape(problem.source)}: {escape(problem.reason)}",
                highlight=False,
                soft_wrap=True,
            )


def _describe(result: SourceResult, finds: str) -> dict[str, Any]:
    described: dict[str, Any] = {
        "source": str(result.source.path),
        "kind": result.source.kind,
        "images": result.images,
        "found": result.found,
        "files": [str(path) for path in result.files],
    }
    if result.document is not None:
        described |= {name: result.document[name] for name in ("version", "image", finds)}
    if result.source.kind == "recording":
        described["repairs"] = result.repairs
    if result.warning:
        described["warning"] = result.warning
    return described


def _labels_in_words(labels: list[dict[str, Any]]) -> str:
    """Return the labels present with their probabilities, or that there is none and which one is nearest."""
    present = sorted((label for label in labels if label["present"]), key=lambda one: -one["probability"])
    if present:
        return ", ".join(f"{label['label']} {label['probability']:.3f}" for label in present)
    nearest = max(labels, key=lambda one: one["probability"] - one["threshold"])
    return (
        f"no label; nearest is {nearest['label']} with {nearest['probability']:.3f} of "
        f"{nearest['threshold']:.3f}"
    )
