"""The repository version that a benchmark runs, in a repository of its own."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from shared.repository.repository import ModelRepository


@contextlib.contextmanager
def alone_in_a_repository(repository: ModelRepository, model: str, version: int) -> Iterator[ModelRepository]:
    """Yield a temporary repository that holds a copy of one version, live and nothing beside it.

    So a version can be measured that is not live, and nobody's promotion disturbs the measurement.
    """
    with tempfile.TemporaryDirectory(prefix="sightline-bench-") as folder:
        shutil.copytree(repository.path(model, version), Path(folder, model, str(version)))
        alone = ModelRepository(Path(folder))
        alone.promote(model, version)
        yield alone


def one_of_each_precision(repository: ModelRepository, model: str) -> list[int]:
    """Return the newest version of every precision, fp32 first."""
    newest = {
        repository.manifest(model, version).precision: version for version in repository.versions(model)
    }
    return [newest[precision] for precision in ("fp32", "fp16", "int8") if precision in newest]


def parse_versions(repository: ModelRepository, model: str, versions: Sequence[str]) -> list[int]:
    """Return version numbers for numbers or aliases. Raises UnknownModel or UnknownVersion."""
    return [repository.resolve(model, version) for version in versions]
