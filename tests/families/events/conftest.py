"""Small networks: a sensor of 60 × 90 pixels, padded to 64 × 96."""

import pytest
import torch

from shared.families.events.config import EventsConfig
from shared.families.events.network import RVT


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """For networks this small a second thread costs more than it gives."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SMALL = {"sensor": "custom", "height": 60, "width": 90, "num_classes": 2}


@pytest.fixture
def small_config():
    """Make a config of the small sensor, with other options as given."""
    return lambda **options: EventsConfig(**{**SMALL, **options})


@pytest.fixture
def small_network(small_config):
    """Make a network of the small sensor that is the same in every run."""

    def make(**options):
        torch.manual_seed(0)
        return RVT(small_config(**options)).eval()

    return make
