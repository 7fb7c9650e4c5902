"""`sightline models families|architectures|losses|augmentations`."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from shared.config.schema import AugmentationConfig
from shared.families import family_names
from shared.losses.registry import LOSSES
from shared.models.architectures import ARCHITECTURES
from shared.repository.cli import app


def listed(command):
    result = CliRunner().invoke(app, [command, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_families_are_listed_with_task_line_and_recipes():
    rows = listed("families")
    assert [row["family"] for row in rows] == family_names()
    assert all(row["about"] and row["recipes"] for row in rows)
    assert next(row["task"] for row in rows if row["family"] == "defects") == "classification"
    shown = CliRunner().invoke(app, ["families"]).stdout
    assert "defects (classification): which of several defects" in shown


@pytest.mark.parametrize(("command", "registry"), [("architectures", ARCHITECTURES), ("losses", LOSSES)])
def test_a_registry_is_listed_with_a_line_for_every_name(command, registry):
    rows = listed(command)
    assert [row["name"] for row in rows] == registry.names()
    shown = CliRunner().invoke(app, [command]).stdout
    assert all(row["summary"] and row["name"] in shown for row in rows)


def test_augmentations_are_keys_of_a_run():
    names = [row["name"] for row in listed("augmentations")]
    assert {"horizontal_flip", "vertical_flip", "shift", "gaussian_noise"} <= set(names)
    assert set(names) <= set(AugmentationConfig.model_fields)


@pytest.mark.parametrize("command", ["families", "architectures", "losses", "augmentations"])
def test_a_list_loads_nothing_of_what_it_lists(command):
    program = (
        "import sys; from shared.repository.cli import app\n"
        f"app([{command!r}, '--json'], standalone_mode=False)\n"
        "sys.exit(', '.join({'torch', 'albumentations', 'cv2'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
