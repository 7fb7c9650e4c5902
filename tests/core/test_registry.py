"""Names in a registry: found, refused with the nearest, and as a field of a config."""

from pathlib import PurePosixPath
from typing import Annotated

import jsonschema
import pytest
from pydantic import BaseModel, Field, ValidationError

from shared.core.registry import Entry, NameIn, Registry, UnknownName

SHAPES = Registry(
    "shape",
    {
        "posix": Entry("pathlib:PurePosixPath", "Slashes.", task="paths"),
        "windows": Entry("pathlib:PureWindowsPath", "Backslashes.", task="paths"),
        "any": Entry("pathlib:nothing_of_the_kind", "Everything."),
        "moon": Entry("no.such.module:x", "Not on earth.", task="space"),
    },
)


class Config(BaseModel):
    shape: Annotated[str, NameIn(SHAPES, "paths")] = Field("posix", description="Which way they lean.")


def test_names_keep_their_order_and_can_be_those_of_a_task():
    assert SHAPES.names() == list(SHAPES) == ["posix", "windows", "any", "moon"]
    assert SHAPES.names("paths") == ["posix", "windows", "any"]


def test_a_target_is_imported_when_it_is_loaded():
    assert SHAPES.load("posix", "paths") is PurePosixPath
    with pytest.raises(ModuleNotFoundError):
        SHAPES.load("moon")


def test_an_unknown_name_is_refused_with_the_nearest_and_all():
    with pytest.raises(UnknownName, match=r"no shape is called .Windws.; did you mean .windows.\?"):
        SHAPES.load("Windws")


def test_a_name_of_another_task_is_unknown_there():
    with pytest.raises(UnknownName, match=r"no paths shape is called .moon. \(there"):
        SHAPES.entry("moon", "paths")


def test_a_field_takes_names_of_its_task_only():
    assert Config(shape="any").shape == "any"
    with pytest.raises(ValidationError, match="did you mean 'posix'"):
        Config(shape="posx")
    with pytest.raises(ValidationError, match="should be a valid string"):
        Config(shape=3)


def test_the_schema_of_a_field_lists_every_name_with_its_line_and_agrees_with_the_field():
    schema = Config.model_json_schema()
    field = schema["properties"]["shape"]
    assert field["enum"] == ["posix", "windows", "any"]
    assert {"const": "windows", "description": "Backslashes."} in field["oneOf"]
    assert (field["default"], field["description"], field["type"]) == (
        "posix",
        "Which way they lean.",
        "string",
    )
    jsonschema.validate({"shape": "any"}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"shape": "moon"}, schema)


def test_rows_say_name_task_and_line():
    assert SHAPES.rows()[2] == {"name": "any", "task": "", "summary": "Everything."}
