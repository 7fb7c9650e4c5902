"""`sightline bench streams`."""

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from services.detector.cli.bench.commands.options import (
    SETTINGS_PREFIX,
    Json,
    Report,
    Repository,
    detector_settings,
    explained,
    give,
    leave_if_missed,
    open_repository,
    refuse_unfit,
    status,
)
from shared.cli.console import ExitCode, err, fail

DELAY_MS = 5  # how long a batch waits to be filled, where there are batches


def streams(
    model: Annotated[
        str, typer.Option("--model", "-m", help="Stream model, as NAME or NAME:VERSION.")
    ] = "events",
    untrained: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Instead of --model: the events network with random weights (tiny, small, base). "
            "Needs PyTorch.",
        ),
    ] = None,
    repository: Repository = None,
    streams_: Annotated[
        int, typer.Option("--streams", min=1, max=256, help="Streams that are fed at once.")
    ] = 32,
    clients: Annotated[
        int, typer.Option(min=1, max=256, help="Connections; each feeds its share of the streams.")
    ] = 16,
    seconds: Annotated[float, typer.Option(min=0.05, max=60, help="Length of each recording.")] = 2.0,
    rate: Annotated[int, typer.Option(min=1, max=10_000_000, help="Events a second of each.")] = 100_000,
    chunks: Annotated[int, typer.Option(min=1, max=1000, help="Chunks that each is cut into.")] = 25,
    max_batch: Annotated[
        str, typer.Option(metavar="SIZES", help="Batch limits to measure, separated by commas.")
    ] = "1,8",
    seed: Annotated[int, typer.Option(min=0, help="Of the recordings, the cuts and the order.")] = 0,
    report: Report = None,
    json_: Json = False,
) -> None:
    """Compare streams fed at once, in chunks cut anywhere, with each recording run alone.

    Alone means the same ONNX file in ONNX Runtime itself, window after window. Scores may differ by 1e-4 and
    boxes by 1e-4 pixels. Exits with 1 where one differs by more, or a window is missing.
    """
    from services.detector.cli.bench.client import Unanswered
    from services.detector.cli.bench.machine import describe_machine
    from services.detector.cli.bench.stream_alone import AloneRunner, read_stream_model
    from services.detector.cli.bench.stream_recordings import moving_shapes, pieces
    from services.detector.cli.bench.streams import StreamsPlan
    from services.detector.cli.bench.tables import aims_table, facts_table

    limits = _limits(max_batch)
    with explained(), _version(model, untrained, repository) as (root, name, version), status() as on_step:
        measured = read_stream_model(root / name / str(version))
        windows = max(1, int(seconds * 1e6) // measured.window_us)
        duration_us = windows * measured.window_us
        recordings = [
            moving_shapes(
                seed * 1000 + number, measured.sensor, duration_us, int(rate * duration_us / 1e6),
                measured.window_us,
            )
            for number in range(streams_)
        ]  # fmt: skip
        cut = [
            pieces(events, duration_us, chunks, seed * 1000 + number)
            for number, events in enumerate(recordings)
        ]
        on_step("each recording alone")
        runner = AloneRunner(measured)
        alone = [runner.run(events, windows) for events in recordings]
        plan = StreamsPlan(name, clients, seed)
        sides = []
        for limit in limits:
            on_step(f"{streams_} streams at once, batches up to {limit}")
            try:
                sides.append(_measure(root, plan, limit, alone, cut))
            except Unanswered as error:
                fail(str(error))
    document: dict[str, Any] = {
        "model": name,
        "version": version,
        "precision": measured.manifest.precision,
        "machine": describe_machine(),
        "streams": streams_,
        "clients": clients,
        "windows": windows,
        "events_per_s": rate,
        "chunks": chunks,
        "seed": seed,
        "sides": sides,
        "aims": [aim for side in sides for aim in side.pop("aims")],
    }
    tables = [
        facts_table(f"{name}: {streams_} streams at once, batches up to {side['max_batch']}", _facts(side))
        for side in sides
    ]
    give(document, [*tables, aims_table(document["aims"])], as_json=json_, file=report)
    leave_if_missed(document["aims"])


def _measure(root: Path, plan: Any, limit: int, alone: list[Any], cut: list[Any]) -> dict[str, Any]:
    """Return what one batch limit gave, with its aims. Raises Unanswered."""
    from services.detector.cli.bench.server_process import start_detector
    from services.detector.cli.bench.streams import (
        SHOWN,
        TOLERANCE_PX,
        TOLERANCE_SCORE,
        batch_sizes,
        compare,
        feed,
    )

    settings = detector_settings() | {
        f"{SETTINGS_PREFIX}MAX_BATCH": str(limit),
        f"{SETTINGS_PREFIX}MAX_DELAY_MS": str(DELAY_MS if limit > 1 else 0),
        f"{SETTINGS_PREFIX}MAX_STREAMS": str(len(cut)),
        f"{SETTINGS_PREFIX}STREAM_MAX_WINDOWS": str(max(200, len(alone[0]))),
        f"{SETTINGS_PREFIX}STREAM_IDLE_S": str(plan.deadline_s),
    }
    with start_detector(root, settings) as server:
        fed = feed(server.port, plan, cut)
        sizes = batch_sizes(server.port, plan.model)
    found = compare(alone, fed.windows)
    of = f"batches up to {limit}: "
    return {
        "max_batch": limit,
        "settings": settings,
        **{key: value for key, value in asdict(fed).items() if key != "windows"},
        "windows_per_s": found.windows / fed.wall_s,
        "batch_sizes": {str(size): runs for size, runs in sizes.items()},
        **asdict(found),
        "wrong": dict(list(found.wrong.items())[:SHOWN]),
        "aims": [
            {"aim": f"{of}windows that differ or are missing", "value": len(found.wrong), "limit": 0,
             "least": False, "met": not found.wrong},
            {"aim": f"{of}largest difference of a box, px", "value": found.largest_box_difference_px,
             "limit": TOLERANCE_PX, "least": False, "met": found.largest_box_difference_px <= TOLERANCE_PX},
            {"aim": f"{of}largest difference of a score", "value": found.largest_score_difference,
             "limit": TOLERANCE_SCORE, "least": False,
             "met": found.largest_score_difference <= TOLERANCE_SCORE},
            {"aim": f"{of}streams that alone answer unlike all others", "value": found.distinct,
             "limit": len(alone), "least": True, "met": found.distinct == len(alone)},
        ],
    }  # fmt: skip


def _facts(side: dict[str, Any]) -> dict[str, str]:
    runs = sum(side["batch_sizes"].values())
    return {
        "windows": f"{side['windows']} with {side['detections']} detections, in {side['chunks']} chunks",
        "windows a second": f"{side['windows_per_s']:.1f}",
        "runs by batch size": ", ".join(f"{size}: {count}" for size, count in side["batch_sizes"].items()),
        "windows in a run, mean": f"{side['windows'] / runs:.2f}" if runs else "",
        "chunks sent twice": str(side["repeated"]),
        "chunks refused and sent again": str(side["refused"]),
        "largest difference of a box": f"{side['largest_box_difference_px']:.2g} px",
        "largest difference of a score": f"{side['largest_score_difference']:.2g}",
        **side["wrong"],
    }


def _limits(text: str) -> list[int]:
    """Return the batch limits; leaves the command where they are none."""
    try:
        limits = [int(part) for part in text.split(",")]
    except ValueError:
        limits = []
    if not limits or not all(1 <= limit <= 64 for limit in limits):
        fail(f"--max-batch {text!r}: state numbers from 1 to 64, such as 1,8", code=ExitCode.USAGE)
    return limits


@contextlib.contextmanager
def _version(model: str, untrained: str | None, repository: Path | None) -> Iterator[tuple[Path, str, int]]:
    """Yield a repository that holds one version alone, live, with the version's model and number."""
    from services.detector.cli.bench.model import (
        UNTRAINED,
        UNTRAINED_STREAMS,
        alone_in_a_repository,
        untrained_repository,
    )

    with contextlib.ExitStack() as held:
        if untrained is None:
            source, name = open_repository(repository), model
        else:
            source = held.enter_context(untrained_repository(untrained, UNTRAINED_STREAMS))
            name = UNTRAINED
            err.print("random weights: what it finds has no meaning", highlight=False)
        name, _, asked = name.partition(":")
        version = source.resolve(name, asked or None)
        refuse_unfit(source.manifest(name, version), ("stream_detection",))
        alone = held.enter_context(alone_in_a_repository(source, name, version))
        yield alone.root, name, version
