"""The losses by name."""

from typing import get_args

from shared.families.person.config import PersonConfig
from shared.losses.registry import LOSSES


def test_the_detection_losses_are_the_choices_of_the_person_family():
    choices = get_args(PersonConfig.model_fields["size_loss"].annotation)
    assert set(LOSSES.names("detection")) == set(choices)


def test_every_name_leads_to_something_that_can_be_called():
    assert all(callable(LOSSES.load(name)) for name in LOSSES)
