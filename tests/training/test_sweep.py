"""Grids and searches through the job queue, against a service that answers from memory."""

import csv
import json

import cv2
import httpx
import optuna
import pytest
from rich.console import Console

from shared.config import ConfigError, compose_run
from training.sweep.numbers import COMPARED
from training.sweep.points import Sweep, check_points, grid_points, load_named_grid, make_point
from training.sweep.queue import SweepQueue
from training.sweep.report import make_rows, over_seeds, plot, seeds_table, table, write_report
from training.sweep.search import parse_axis, search

SWEEP = Sweep("grid-test", "person", "recommended")
DETECTION, CLASSIFICATION = COMPARED["detection"], COMPARED["classification"]


class JobsService:
    """Jobs by idempotency key; each is over the second time that it is asked for."""

    def __init__(self, outcome):
        self.outcome, self.jobs, self.submissions = outcome, {}, []

    def __call__(self, request):
        if request.method == "POST":
            body, key = json.loads(request.content), request.headers["Idempotency-Key"]
            self.submissions.append((key, body))
            created = key not in self.jobs
            self.jobs.setdefault(key, {"id": f"job-{len(self.jobs)}", "asked": 0, "body": body})
            return httpx.Response(202 if created else 200, json=self.shown(self.jobs[key]))
        job = next(job for job in self.jobs.values() if job["id"] == request.url.path.rsplit("/", 1)[1])
        job["asked"] += 1
        return httpx.Response(200, json=self.shown(job))

    def shown(self, job):
        state, result, error = "queued", None, None
        if job["asked"] >= 2:
            result = self.outcome(job["body"]["params"]["overrides"])
            state = "failed" if isinstance(result, str) else "succeeded"
            error, result = ({"message": result}, None) if state == "failed" else (None, result)
        return {
            "id": job["id"],
            "state": state,
            "attempt": 1,
            "progress": None,
            "result": result,
            "error": error,
        }

    def queue(self):
        client = httpx.Client(transport=httpx.MockTransport(self), base_url="http://jobs")
        return SweepQueue(client, SWEEP, poll_s=0.0)


def better_with_grid_size(overrides):
    size = next(int(o.split("=")[1]) for o in overrides if o.startswith("model.grid_size"))
    if size == 32:
        return "out of memory"
    metrics = {"ap50": size / 100, "ap": size / 200, "f1": 1 - size / 100}
    return {"metrics": metrics, "parameters": 2_351_381, "training_seconds": 12.0, "run_id": f"run-{size}"}


def ignore(point, job):
    pass


@pytest.mark.parametrize(
    ("name", "key", "expected"),
    [
        ("grid_size", "model.grid_size", [13, 26, 32, 52]),
        ("lr", "optimizer.lr", [1e-5, 5e-5, 1e-4, 5e-4]),
    ],
)
def test_the_named_grids_are_those_of_the_spec(name, key, expected):
    named = load_named_grid("person", name)
    points = grid_points(named.values, ["data.path=cctv", *named.overrides])
    runs = [compose_run("person", overrides=point.overrides).model_dump() for point in points]
    section, _, field = key.partition(".")
    assert [run[section][field] for run in runs] == expected


def test_the_grid_of_lambdas_is_every_pair_of_the_spec():
    grid = load_named_grid("person", "lambdas").values
    pairs = {
        (float(p.values["model.lambda_coord"]), float(p.values["model.lambda_noobj"]))
        for p in grid_points(grid, [])
    }
    assert pairs == {(coord, noobj) for coord in (2, 5, 7, 10) for noobj in (0.3, 0.5, 0.7, 1.0)}


def test_a_wrong_point_is_found_before_anything_is_submitted():
    with pytest.raises(ConfigError, match=r"model\.grid_size"):
        check_points(SWEEP, grid_points({"model.gridsize": ["13"]}, ["data.path=cctv"]))
    with pytest.raises(ConfigError, match="Did you mean 'grid_size'"):
        load_named_grid("person", "gridsize")


def test_the_same_sweep_again_finds_its_jobs_and_another_one_makes_new_ones():
    service = JobsService(better_with_grid_size)
    points = grid_points({"model.grid_size": ["13", "26"]}, ["data.path=cctv"])
    first = service.queue().run(points, ignore)
    again = service.queue().run(points, ignore)
    assert [job["id"] for _, job in first] == [job["id"] for _, job in again]
    assert len(service.jobs) == 2
    assert {body["group"] for _, body in service.submissions} == {"grid-test"}
    service.queue().run(grid_points({"model.grid_size": ["13"]}, ["data.path=other"]), ignore)
    assert len(service.jobs) == 3


def test_the_report_ranks_runs_and_keeps_the_failed_one(tmp_path):
    points = grid_points({"model.grid_size": ["13", "26", "32", "52"]}, [])
    rows = make_rows(JobsService(better_with_grid_size).queue().run(points, ignore), DETECTION, "ap")
    assert [row["point"]["model.grid_size"] for row in rows] == ["52", "26", "13", "32"]
    assert (rows[-1]["state"], rows[-1]["error"]) == ("failed", "out of memory")
    paths = write_report(tmp_path, rows, DETECTION, "test", "ap")
    with paths["csv"].open() as file:
        lines = list(csv.DictReader(file))
    assert [line["ap50"] for line in lines] == ["0.52", "0.26", "0.13", ""]
    assert json.loads(paths["json"].read_text()) == rows
    assert cv2.imread(str(paths["png"])) is not None


@pytest.mark.parametrize(("metric", "best"), [("ap", "52"), ("ap50", "52"), ("f1", "13")])
def test_each_metric_ranks(tmp_path, metric, best):
    points = grid_points({"model.grid_size": ["13", "26", "52"]}, [])
    rows = make_rows(JobsService(better_with_grid_size).queue().run(points, ignore), DETECTION, metric)
    assert rows[0]["point"]["model.grid_size"] == best
    write_report(tmp_path, rows, DETECTION, "test", metric)


def test_a_value_given_twice_is_one_job_and_ends():
    service = JobsService(better_with_grid_size)
    results = service.queue().run(grid_points({"model.grid_size": ["13", "26", "13"]}, []), ignore)
    assert [job["id"] for _, job in results] == ["job-0", "job-1", "job-0"]


def test_every_shape_of_sweep_is_drawn():
    def row(point, ap):
        state = "failed" if ap is None else "succeeded"
        return {"point": point, "ap": ap, "ap50": ap, "f1": ap, "rarest": None, "of_each": {}, "state": state}

    pairs = [row({"a": a, "b": b}, None if a == b == "2" else 0.5) for a in "12" for b in "12"]
    trials = [row({"a": str(n / 7), "b": "x", "c": "y"}, n / 10) for n in range(5)]
    seeds = [row({"a": a, "seed": seed}, None if a == seed else 0.5) for a in "12" for seed in "123"]
    for rows in (pairs, trials, seeds, [row({"a": "1"}, None)]):
        plot(rows, DETECTION, "title", "ap").canvas.draw()


@pytest.mark.parametrize(
    "text", ["model.grid_size", "=1,2", "lr=log:0:1", "lr=float:2:1", "lr=int:a:b", "lr=int:1:2.5", "lr=a,,b"]
)
def test_a_wrong_space_is_refused(text):
    with pytest.raises(ConfigError, match="--space"):
        parse_axis(text)


def test_a_search_ends_with_its_trials_and_goes_on_where_it_was(tmp_path):
    def quality(overrides):
        values = dict(override.split("=") for override in overrides)
        lr, size = float(values["optimizer.lr"]), int(values["model.grid_size"])
        if size == 13:
            return "did not fit"
        return {"metrics": {"ap": 1 - abs(lr - 1e-3), "ap50": 1.0}, "parameters": 1, "training_seconds": 1.0}

    service = JobsService(quality)
    axes = [parse_axis("optimizer.lr=log:1e-5:1e-2"), parse_axis("model.grid_size=13,26")]

    def run(trials):
        return search(
            service.queue(),
            axes,
            ["data.path=cctv"],
            name="s",
            folder=tmp_path,
            trials=trials,
            parallel=2,
            metric="ap",
            compared=DETECTION,
            seed=0,
            on_change=ignore,
        )

    first, longer = run(4), run(6)
    assert (len(first), len(longer), len(service.jobs)) == (4, 6, 6)
    assert [point for point, _ in longer[:4]] == [point for point, _ in first]
    assert len({point.values["optimizer.lr"] for point, _ in longer}) == 6
    assert all(1e-5 <= float(point.values["optimizer.lr"]) <= 1e-2 for point, _ in longer)


def test_a_search_with_more_trials_than_choices_ends_and_each_metric_has_its_own_study(tmp_path):
    service = JobsService(better_with_grid_size)

    def run(metric):
        place = {"name": "s", "folder": tmp_path, "trials": 6, "parallel": 3}
        axes = [parse_axis("model.grid_size=13,26")]
        return search(
            service.queue(),
            axes,
            ["data.path=cctv"],
            metric=metric,
            compared=DETECTION,
            seed=0,
            on_change=ignore,
            **place,
        )

    assert len(run("ap")) == len(run("f1")) == 6
    assert len(service.jobs) == 2
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    best = {study.study_name: study.best_trial.value for study in optuna.get_all_study_summaries(storage)}
    assert best == pytest.approx({"s by ap": 0.13, "s by f1": 0.87})


def test_swept_values_win_over_fixed_ones():
    point = make_point({"model.grid_size": "13"}, ["data.path=cctv", "model.grid_size=52"])
    assert compose_run("person", overrides=point.overrides).model["grid_size"] == 13


def by_loss_and_seed(overrides):
    """Focal finds more of the rare class and less overall; its last seed fails."""
    values = dict(override.split("=", 1) for override in overrides)
    seed, focal = int(values["seed"]), values["model.loss"] == "focal"
    if focal and seed == 2:
        return "out of memory"
    recall = {"1": 0.9, "2": (0.75 if focal else 0.25) + seed / 8}
    images = {"1": 500, "2": 20}
    return {
        "metrics": {"macro_f1": (0.5 if focal else 0.625) + seed / 8, "map": 0.5, "micro_f1": 0.9},
        "per_class": {
            name: {"recall": recall[name], "f1": 0.5, "training_images": images[name]} for name in recall
        },
        "parameters": 1_912_260,
        "training_seconds": 60.0,
        "run_id": f"run-{values['model.loss']}-{seed}",
    }


@pytest.fixture
def losses_over_seeds():
    named = load_named_grid("defects", "loss")
    points = grid_points(named.values, ["data.path=steel", *named.overrides])
    queue = JobsService(by_loss_and_seed).queue()
    return make_rows(queue.run(points, ignore), CLASSIFICATION, "rare_recall")


def test_the_rarest_class_is_the_one_with_the_fewest_training_images_and_ranks(losses_over_seeds, tmp_path):
    ranked = [(row["point"]["model.loss"], row["point"]["seed"]) for row in losses_over_seeds]
    assert ranked == [
        ("focal", "1"), ("focal", "0"), ("bce", "2"), ("bce", "1"), ("bce", "0"), ("focal", "2")
    ]  # fmt: skip
    assert [row["rare_recall"] for row in losses_over_seeds] == [0.875, 0.75, 0.5, 0.375, 0.25, None]
    assert {row["rarest"] for row in losses_over_seeds[:-1]} == {"2"}
    paths = write_report(tmp_path, losses_over_seeds, CLASSIFICATION, "test", "rare_recall")
    with paths["csv"].open() as file:
        first = next(csv.DictReader(file))
    assert (first["recall of 1"], first["recall of 2"]) == ("0.9", "0.875")
    headings = [column.header for column in table(losses_over_seeds, CLASSIFICATION, "").columns]
    assert "recall of 2 (rarest)" in headings


def test_seeds_of_one_setting_are_put_together_without_the_failed_ones(losses_over_seeds, tmp_path):
    focal, bce = over_seeds(losses_over_seeds, CLASSIFICATION, "rare_recall")
    assert (focal["point"], focal["runs"], focal["seeds"]) == ({"model.loss": "focal"}, 2, 3)
    assert focal["rare_recall"] == {"mean": 0.8125, "min": 0.75, "max": 0.875}
    assert (bce["point"], bce["runs"]) == ({"model.loss": "bce"}, 3)
    assert bce["macro_f1"] == {"mean": 0.75, "min": 0.625, "max": 0.875}
    assert over_seeds(losses_over_seeds, CLASSIFICATION, "macro_f1")[0]["point"] == {"model.loss": "bce"}
    paths = write_report(tmp_path, losses_over_seeds, CLASSIFICATION, "test", "rare_recall")
    assert json.loads(paths["seeds"].read_text()) == [focal, bce]
    console = Console(record=True, width=200)
    console.print(seeds_table([focal, bce], losses_over_seeds, CLASSIFICATION))
    assert "0.812 (0.750–0.875)" in console.export_text()


def test_a_sweep_over_seeds_alone_has_nothing_to_put_together(losses_over_seeds):
    alone = [{**row, "point": {"seed": row["point"]["seed"]}} for row in losses_over_seeds[:3]]
    assert over_seeds(alone, CLASSIFICATION, "macro_f1") == []


@pytest.mark.parametrize("name", ["loss", "cbam"])
def test_the_sweeps_of_defects_compose_over_three_seeds(name):
    named = load_named_grid("defects", name)
    points = grid_points(named.values, ["data.path=steel", *named.overrides])
    runs = [compose_run("defects", "light", point.overrides) for point in points]
    assert len({(run.seed, run.model["loss"], run.model["architecture"]) for run in runs}) == 6


def test_the_variants_of_events_differ_by_their_switch_alone_and_are_those_of_the_recipes():
    named = load_named_grid("events", "variants")
    assert named.recipe == "reference"
    points = grid_points(named.values, ["data.path=frames"], named.variants)
    assert len(points) == 5 * 3
    runs = {
        point.values["variant"]: compose_run("events", named.recipe, point.overrides)
        for point in points
        if point.values["seed"] == "2"
    }
    assert {run.seed for run in runs.values()} == {2}
    for name, run in runs.items():
        recipe = compose_run("events", name, ["data.path=frames", "seed=2"])
        assert run == recipe.model_copy(update={"recipe": "reference"}), name
        others = run.model_dump(exclude={"model"})
        assert others == runs["reference"].model_dump(exclude={"model"})
    changed = {
        name: {key for key, value in run.model.items() if value != runs["reference"].model[key]}
        for name, run in runs.items()
    }
    assert changed == {
        "reference": set(),
        "size_aware": {"size_aware"},
        "four_scale": {"scales"},
        "four_scale_size_aware": {"scales", "size_aware"},
        "attention": {"attention"},
    }


def test_a_variant_that_a_grid_does_not_have_is_told_the_nearest():
    named = load_named_grid("events", "variants")
    with pytest.raises(ConfigError, match=r"unknown variant of this grid 'four'.*four_scale"):
        grid_points({"variant": ["four"]}, [], named.variants)


def by_variant(overrides):
    """Four scales find more of the small; a class that is not there has no AP."""
    four, seed = "model.scales=4" in overrides, int(overrides[-1].removeprefix("seed="))
    sizes = {"ap_small": 0.5 if four else 0.25, "ap_medium": 0.5, "ap_large": None}
    return {
        "metrics": {"ap": 0.5 + seed / 8, "ap50": 0.75, "recall_at_rest": 0.25, **sizes},
        "per_class": {"car": {"ap": 0.5 + seed / 4}, "tram": {"ap": None}},
        "parameters": 4_400_000,
        "training_seconds": 60.0,
        "run_id": "run",
    }


def test_streams_are_compared_overall_by_size_and_by_class_in_one_table(tmp_path):
    compared = COMPARED["stream_detection"]
    named = load_named_grid("events", "variants")
    values = {"variant": ["reference", "four_scale"], "seed": ["0", "1"]}
    points = grid_points(values, ["data.path=frames"], named.variants)
    rows = make_rows(JobsService(by_variant).queue().run(points, ignore), compared, "ap")
    headings = [column.header for column in table(rows, compared, "").columns]
    assert headings[:2] == ["variant", "seed"]
    sizes = ["AP small", "AP medium", "AP large", "recall at rest"]
    assert headings[2:10] == ["AP50", "AP", *sizes, "AP of car", "AP of tram"]
    reference = next(
        row for row in over_seeds(rows, compared, "ap") if row["point"]["variant"] == "reference"
    )
    assert reference["AP of car"] == {"mean": 0.625, "min": 0.5, "max": 0.75}
    assert reference["AP of tram"] is None
    paths = write_report(tmp_path, rows, compared, "test", "ap")
    with paths["csv"].open() as file:
        first = next(csv.DictReader(file))
    assert (first["seed"], first["AP of car"], first["AP of tram"]) == ("1", "0.75", "")
    assert cv2.imread(str(paths["png"])) is not None
