"""Families by name, and what asking for them may load."""

import subprocess
import sys

import pytest
from pydantic import BaseModel

from shared.families import Family, UnknownFamily, config_class, family_names, get_family, recipes_dir


def test_every_family_has_a_config_recipes_and_parts_of_the_same_name():
    for name in family_names():
        family = get_family(name)
        assert isinstance(family, Family)
        assert family.name == name
        assert family.config is config_class(name)
        assert issubclass(family.config, BaseModel)
        assert {"reference", "recommended"} <= {path.stem for path in recipes_dir(name).glob("*.yaml")}


def test_an_unknown_family_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownFamily, match=r"'persn'; did you mean 'person'\? \(there are: .*person"):
        get_family("persn")
    with pytest.raises(KeyError):
        config_class("zzz")


def test_names_configs_and_recipes_load_no_torch():
    code = (
        "import sys; from shared.families import config_class, family_names, recipes_dir\n"
        "for name in family_names(): config_class(name)(); recipes_dir(name)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
