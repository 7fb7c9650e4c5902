from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.repository import ModelRepository
from tests.fixtures.tiny_detection_model import tiny_repository
from tests.services.detector.serving import Served, serving


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One detector for all tests of a module that only ask."""
    repository = tiny_repository(tmp_path_factory.mktemp("served"), versions=2)
    with serving(repository.root, max_body_bytes=2_000_000, max_batch_images=4) as served:
        yield served


@pytest.fixture
def repository(tmp_path: Path) -> ModelRepository:
    return tiny_repository(tmp_path)
