"""From measurements to figures: hand-made numbers in, numbers worked out by hand out."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from services.detector.cli.bench.overload import OverloadPlan, OverloadSamples, summarise_overload
from services.detector.cli.bench.serving import BareTurn, LoadTurn, Samples, ServingPlan, SideTurn
from services.detector.cli.bench.serving_report import aims, summarise
from services.detector.cli.bench.sides import Side
from services.detector.cli.bench.tables import overload_table, plot_serving, serving_tables
from services.detector.cli.bench.tuning import (
    Candidate,
    Measured,
    TuningPlan,
    batch_candidates,
    choose,
    fragment,
    thread_candidates,
)
from shared.repository.repository import ModelRepository

MIB = 2**20


def side(name: str, title: str) -> Side:
    return Side(name, title, start=lambda: pytest.fail("nothing is started here"), target="/")


def plan(*names: str, concurrencies: tuple[int, ...] = (1, 8)) -> ServingPlan:
    sides = [side(name, name.title()) for name in names]
    return ServingPlan(Path("1"), Path(), sides, threads=2, rounds=2, concurrencies=concurrencies)


def load(
    cpu_ms: float, images_per_s: float, latency_ms: float, refused: int = 0, failed: int = 0
) -> LoadTurn:
    return LoadTurn([latency_ms] * 4, images_per_s, cpu_ms, refused, failed)


def turn(loads: dict[int, LoadTurn], before: BareTurn, after: BareTurn, mib: float = 200.0) -> SideTurn:
    return SideTurn(1.0, loads, int(mib * MIB), int(mib * MIB / 2), before, after)


def measured() -> tuple[ServingPlan, Samples]:
    # images/s, CPU ms, p50 of a thread, p50 on all cores
    first, second, third = (
        BareTurn(40, 50, 50, 30), BareTurn(36, 52, 50, 30), BareTurn(38, 54, 50, 34),
    )  # fmt: skip
    ours = [
        turn({1: load(52.0, 30, 33), 8: load(51.6, 38, 200)}, first, second),
        turn({1: load(53.5, 30, 32), 8: load(53.8, 37, 300, refused=2, failed=1)}, second, third, mib=240),
    ]
    theirs = [turn({1: load(55, 20, 50), 8: load(54.0, 36, 210)}, first, second)]
    return plan("sightline", "litserve", "bentoml"), Samples(
        bare=[first, second, third],
        sides={"sightline": ours, "litserve": theirs},
        left_out={"bentoml": "not installed"},
        other_cpu_share=0.01,
    )


def test_costs_and_ratios_are_against_the_bare_turns_before_and_after():
    report = summarise(*measured())
    at_8 = report["sides"]["sightline"]["concurrency"]["8"]
    # The bare loop took 51 ms around the first turn and 53 ms around the second.
    assert at_8["own_cost_ms"] == {"median": 0.7, "min": 0.6, "max": 0.8}
    assert at_8["cpu_ratio"]["max"] == pytest.approx(53.8 / 53, abs=1e-3)
    assert at_8["throughput_ratio"] == {"median": 1.0, "min": 1.0, "max": 1.0}  # 38 of 38, 37 of 37
    assert (at_8["refused"], at_8["failed"]) == (2, 1)
    at_1 = report["sides"]["sightline"]["concurrency"]["1"]
    assert at_1["lone_ratio"] == {"median": 1.05, "min": 1.0, "max": 1.1}  # 33 of 30, 32 of 32
    assert report["sides"]["sightline"]["resident_mib"] == {"median": 220, "min": 200, "max": 240}
    assert report["bare"]["images_per_s"] == {"median": 38, "min": 36, "max": 40}
    assert "bentoml" not in report["sides"]


def test_percentiles_are_over_the_answers_of_all_rounds():
    one = BareTurn(1, 1, 1, 1)
    turns = [
        turn({8: LoadTurn([float(value) for value in values], 1, 1, 0, 0)}, one, one)
        for values in (range(1, 51), range(51, 102))
    ]
    report = summarise(plan("sightline", concurrencies=(8,)), Samples([one], {"sightline": turns}))
    figures = report["sides"]["sightline"]["concurrency"]["8"]
    assert [figures[name] for name in ("p50_ms", "p95_ms", "p99_ms")] == [51.0, 96.0, 100.0]  # of 1 to 101


def by_aim(rows: list[dict[str, Any]]) -> dict[str, tuple[float, float, bool]]:
    return {row["aim"]: (row["value"], row["limit"], row["met"]) for row in rows}


def test_aims_say_what_is_met_and_what_is_missed():
    rows = by_aim(aims(summarise(*measured()), without_model=False))
    assert rows["own cost per request at 8, ms"] == (0.7, 0.8, True)
    assert rows["own cost at 8, ms, against the lowest of those that batch"] == (0.7, 3.0, True)  # 54 - 51
    assert rows["median latency at 1 over the bare loop on all cores"] == (1.05, 1.1, True)
    assert rows["resident memory with one model, MiB"] == (220, 250, True)
    assert not any("at 32" in name for name in rows)  # it was not measured at 32


def test_a_dearer_server_misses_its_aims():
    given, samples = measured()
    samples.sides["sightline"] = [
        turn({1: load(60, 10, 90), 8: load(60, 10, 90)}, samples.bare[0], samples.bare[1], mib=300)
    ]
    rows = by_aim(aims(summarise(given, samples), without_model=False))
    assert [met for _, _, met in rows.values()] == [False] * 5


def test_int8_is_compared_with_the_best_peer_on_fp32():
    one = BareTurn(40, 50, 50, 30)
    rates = {"sightline": 39, "sightline-int8": 90, "litserve": 36, "fastapi": 40}
    samples = Samples(
        [one], {name: [turn({32: load(50, rate, 9)}, one, one)] for name, rate in rates.items()}
    )
    rows = by_aim(aims(summarise(plan(*rates, concurrencies=(32,)), samples), without_model=False))
    assert rows["int8: images/s at 32 over the best peer on fp32"] == (2.25, 2.0, True)  # 90 of 40
    assert rows["images/s at 32 over the bare loop"] == (0.975, 0.97, True)


def test_tables_and_plot_show_every_side(tmp_path: Path):
    report = {**summarise(*measured()), "model": "person", "version": 3, "without_model": False}
    report["aims"] = aims(report, without_model=False)
    text = io.StringIO()
    for table in serving_tables(report):
        Console(file=text, width=200).print(table)
    for expected in ("bare loop", "Sightline", "Litserve", "0.70 (0.60 to 0.80)", "met"):
        assert expected in text.getvalue()
    plot_serving(report, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_the_estimate_counts_rounds_sides_and_the_time_at_each_concurrency():
    few = ServingPlan(Path(), Path(), [side("a", "A")], threads=2, rounds=2, seconds=2, concurrencies=(1, 8))
    # Twice: start 4 s and warm-up 0.7 s, 2 s at 1 and at 8, and two bare turns of 3 s.
    assert few.estimated_s == pytest.approx(2 * (4.7 + 4 + 6))
    assert few.steps == 2 * (3 + 2)


def overloaded(**changes: Any) -> OverloadSamples:
    # 10 a second saturate it; 40 a second for 2 s: 20 are answered, 60 refused after 4 ms.
    answered = [[0.1 * number, 50.0, 200, None] for number in range(20)]
    refused = [[0.03 * number, 4.0, 429, "1"] for number in range(60)]
    answer = {"requests": answered + refused, "failures": 0, "unsent": 0, "lag_ms": 0.2, "offered_s": 2.0}
    samples = OverloadSamples(
        lone_ms=[20.0, 22.0, 24.0],
        saturated_per_s=10.0,
        rate=40.0,
        seconds=2.0,
        answer=answer | changes.pop("answer", {}),
        memory=[(0.5, 100 * MIB), (1.5, 104 * MIB), (2.5, 110 * MIB), (9.0, 108 * MIB)],
        overloaded_from_s=1.0,
        overloaded_until_s=3.0,
        recovery_s=1.2,
    )
    for name, value in changes.items():
        setattr(samples, name, value)
    return samples


def test_an_overload_that_is_borne_meets_every_aim():
    report = summarise_overload(OverloadPlan(), overloaded())
    assert report["answered_share"] == 1.0
    assert report["offered_per_s"] == 40.0
    assert (report["refused"], report["refusal_p50_ms"], report["refusal_p95_ms"]) == (60, 4.0, 4.0)
    memory = [report[f"resident_{when}_mib"] for when in ("before", "peak", "after")]
    assert memory == [100, 110, 108]
    assert all(row["met"] for row in report["aims"])
    text = io.StringIO()
    Console(file=text, width=200).print(overload_table({**report, "model": "person", "version": 1}))
    assert "60, median 4.0 ms" in text.getvalue()


LATE = [[0.1 * number, 5000.0, 200, None] for number in range(20)]
SILENT = [[0.03 * number, 4.0, 429, None] for number in range(80)]
BROKEN = [[0.03 * number, 4.0, 500, None] for number in range(80)]


@pytest.mark.parametrize(
    ("changes", "missed"),
    [
        ({"answer": {"requests": LATE}}, "share of the saturated throughput still answered"),
        ({"answer": {"requests": SILENT}}, "refusals without Retry-After"),
        ({"answer": {"requests": BROKEN}}, "answers but 200 and 429, or none"),
        ({"answer": {"failures": 3}}, "answers but 200 and 429, or none"),
        ({"answer": {"offered_s": 4.0}}, "offered, times the saturated throughput"),
        ({"recovery_s": None}, "seconds until answered as usual"),
        ({"recovery_s": 2.5}, "seconds until answered as usual"),
        ({"memory": [(0.5, 100 * MIB), (2.0, 190 * MIB)]}, "memory grown meanwhile, MiB"),
    ],
)
def test_what_goes_wrong_in_an_overload_is_missed(changes: dict[str, Any], missed: str):
    report = summarise_overload(OverloadPlan(), overloaded(**changes))
    assert missed in [row["aim"] for row in report["aims"] if not row["met"]]


def candidate(name: str, images_per_s: list[float], lone_ms: list[float]) -> Measured:
    return Measured(Candidate(((name, 1),)), images_per_s, lone_ms, [1.0] * len(lone_ms))


DEFAULTS = Measured(Candidate(), [100, 50, 100], [20, 40, 20], [1.0] * 3)
QUICK = candidate("quick", [97, 48.5, 97], [10, 20, 10])  # 3 % less throughput, twice as quick alone
BROAD = candidate("broad", [110, 55, 110], [30, 60, 30])
LAME = candidate("lame", [50, 25, 50], [5, 10, 5])


def test_each_goal_has_its_own_best():
    assert choose([DEFAULTS, QUICK, BROAD, LAME], "throughput") is BROAD
    assert choose([DEFAULTS, QUICK, LAME], "balanced") is QUICK
    assert choose([DEFAULTS, QUICK, BROAD, LAME], "balanced") is BROAD  # nothing else has 95 % of it
    assert choose([DEFAULTS, QUICK, BROAD, LAME], "latency") is LAME


def test_a_draw_goes_to_the_defaults_and_a_drift_of_the_machine_cancels():
    same = candidate("same", [101, 51, 101], [19.8, 39.6, 19.8])
    assert choose([DEFAULTS, same], "throughput") is DEFAULTS
    assert choose([DEFAULTS, same], "latency") is DEFAULTS
    slower = candidate("slower", [90, 45, 90], [20, 40, 20])
    assert choose([DEFAULTS, slower], "throughput") is DEFAULTS


def test_candidates_begin_with_the_defaults_and_use_the_cores():
    settings = [dict(one.settings) for one in thread_candidates(4)]
    assert settings[0] == {}
    pairs = [(one["intra_op_threads"], one["instances"]) for one in settings[1:]]
    assert pairs == [(1, 4), (1, 5), (2, 2), (2, 3), (4, 1), (4, 2)]
    batches = batch_candidates(Candidate((("instances", 2),)), 4)
    assert [dict(one.settings).get("decode_threads") for one in batches] == [None, None, 1, 4]


def test_the_fragment_holds_settings_and_where_they_come_from(tmp_path: Path):
    given = TuningPlan(ModelRepository(tmp_path), "person", 3, tmp_path, cores=2)
    text = fragment(given, candidate("instances", [40.0], [25.0]), "a processor")
    assert text.splitlines()[2:] == ["SIGHTLINE_DETECTOR_INSTANCES=1"]
    assert "person version 3" in text
    assert "40.0 images/s at 8 requests at once, 25.0 ms" in text
    assert all(line.startswith("#") for line in fragment(given, DEFAULTS, "a processor").splitlines())
