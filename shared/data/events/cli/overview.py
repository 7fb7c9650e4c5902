"""`sightline data events`: what a recording of an event camera holds."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from shared.cli.console import ExitCode, fail, out, print_json
from shared.data.cli.options import JsonOption
from shared.data.events.cli.options import ClassesOption, SensorOption, chosen_classes, existing, parse_size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from shared.data.events.classes import ClassList
    from shared.data.events.recording import Recording


def events(
    recording: Annotated[Path, typer.Argument(help="A .dat, .raw or .h5 file.", show_default=False)],
    labels: Annotated[Path | None, typer.Option(help="Boxes. Default: ..._bbox.npy beside it.")] = None,
    classes: ClassesOption = None,
    sensor: SensorOption = None,
    picture: Annotated[Path | None, typer.Option(help="PNG to write: windows of events, with boxes.")] = None,
    count: Annotated[int, typer.Option(min=1, max=64, help="Windows in the picture.")] = 9,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the picture.")] = False,
    json: JsonOption = False,
) -> None:
    """Say what a recording of an event camera holds: length, rates, sensor, repairs, boxes per class."""
    import numpy as np

    from shared.data.events.labels import BOX, read_boxes
    from shared.data.events.layout import sequence_name
    from shared.data.events.overview import overview
    from shared.data.events.recording import open_recording
    from shared.data.events.repairs import RecordingUnreadable, Repairs

    recording = existing(recording)
    if picture is not None and picture.exists() and not force:
        fail(f"{picture} exists", hint="give another --picture, or --force", code=ExitCode.USAGE)
    if picture is not None and picture.suffix.lower() != ".png":
        fail(f"{picture} must end in .png", code=ExitCode.USAGE)
    if labels is not None and not labels.is_file():
        fail(f"{labels} is not a file", code=ExitCode.NOT_FOUND)
    _, chosen = chosen_classes(classes, recording)
    try:
        opened = open_recording(recording, parse_size(sensor))
        beside = labels or recording.with_name(f"{sequence_name(recording)}_bbox.npy")
        label_repairs = Repairs()
        boxes = read_boxes(beside, label_repairs) if beside.is_file() else None
        if boxes is not None and chosen is not None:
            chosen.check(boxes["class_id"], str(beside))
        found = overview(opened, boxes, chosen, label_repairs.as_dict())
        if picture is not None:
            shown = boxes if boxes is not None else np.empty(0, BOX)
            _write_picture(picture, opened, found.first_us, found.last_us, shown, chosen, count)
    except RecordingUnreadable as error:
        fail(str(error))
    if json:
        print_json(found.as_dict() | {"picture": str(picture.absolute()) if picture else None})
    else:
        _show(found.as_dict())


def _write_picture(
    picture: Path, recording: "Recording", first_us: int, last_us: int, boxes: "NDArray[np.void]",
    classes: "ClassList | None", count: int,
) -> None:  # fmt: skip
    import cv2

    from shared.core.files import write_atomic
    from shared.data.events.picture import choose_times, event_sheet

    times = choose_times(first_us, last_us, boxes, count)
    sheet = event_sheet(recording.chunks(), recording.size, times, boxes, classes)
    encoded, data = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    assert encoded
    write_atomic(picture, data.tobytes())


def _show(found: dict[str, Any]) -> None:
    from rich.table import Table

    from shared.data.events.repairs import MEANING, Repair

    table = Table(box=None, pad_edge=False, show_header=False)
    height, width = found["sensor"]
    table.add_row("format", found["format"])
    table.add_row("sensor", f"{height} x {width} (height x width)")
    table.add_row("events", f"{found['events']:,}")
    table.add_row("time", f"{found['first_us'] / 1e6:.3f} to {found['last_us'] / 1e6:.3f} s")
    table.add_row(
        "rate", f"{found['mean_rate']:,.0f} events/s, {found['peak_rate']:,.0f} in the busiest 50 ms"
    )
    table.add_row("brighter", f"{found['brighter_share']:.1%}")
    if found["boxes"] is None:
        table.add_row("boxes", "no labels beside it")
    else:
        table.add_row("boxes", f"{found['boxes']:,} at {found['label_times']:,} times")
        for name, count in found["boxes_per_class"].items():
            table.add_row(f"  {name}", f"{count:,}")
    for kind, count in found["repairs"].items():
        table.add_row(f"repaired: {kind}", f"{count:,} {MEANING[Repair(kind)]}")
    out.print(table)
