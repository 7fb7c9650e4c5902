"""The JSON Schema of a run against runs that compose, and runs that do not."""

import jsonschema
import pytest

from shared.config import ConfigError, compose_run
from shared.config.keys import dotted_keys
from shared.config.run_schema import run_schema
from shared.families import family_names


def leaf(schema, key):
    """The schema of one dotted key."""
    node = schema
    for part in key.split("."):
        node = node["properties"][part]
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
    return node


@pytest.mark.parametrize("family", family_names())
def test_a_composed_run_is_valid_and_every_key_of_it_is_described(family):
    schema = run_schema(family)
    jsonschema.Draft202012Validator.check_schema(schema)
    run = compose_run(family, "recommended", ["data.path=somewhere"]).model_dump(mode="json")
    jsonschema.validate(run, schema)
    assert all(leaf(schema, key)["description"] for key in dotted_keys(family))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("model", "architecture", "convnext_huge"),
        ("model", "loss", "squared"),  # a detection loss
        ("model", "gamma", -1),
        ("trainer", "monitor", "ap50"),  # not measured in classification
        ("trainer", "batchsize", 4),
    ],
)
def test_what_the_config_refuses_the_schema_refuses(section, key, value):
    with pytest.raises(ConfigError):
        compose_run("defects", "recommended", ["data.path=somewhere", f"{section}.{key}={value}"])
    run = compose_run("defects", "recommended", ["data.path=somewhere"]).model_dump(mode="json")
    run[section][key] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(run, run_schema("defects"))


def test_the_default_monitor_is_one_that_the_task_has():
    assert leaf(run_schema("defects"), "trainer.monitor")["default"] == "macro_f1"
    assert leaf(run_schema("person"), "trainer.monitor")["default"] == "ap"


def test_an_unknown_family_is_refused():
    with pytest.raises(ConfigError, match="Did you mean 'person'"):
        run_schema("persn")
