"""JSON Schema of a whole run of one family: what a form for a training job is made of. Torch-free."""

from typing import Any

from shared.config.compose import recipe_names
from shared.config.monitors import MONITORS
from shared.config.schema import RunConfig
from shared.families.registry import config_class, family_task


def run_schema(family: str) -> dict[str, Any]:
    """Every key of a run with type, range, default and description; choices list what `family` has.

    A leaf `section.key` is what an override `section.key=value` sets. Defaults are the keys' own, which a
    recipe may change. Raises ConfigError for an unknown family.
    """
    recipes = recipe_names(family)
    schema = RunConfig.model_json_schema()
    model = config_class(family).model_json_schema()
    clash = schema["$defs"].keys() & model.get("$defs", {}).keys()
    if clash:
        raise ValueError(f"the config of {family!r} and that of a run both define {', '.join(sorted(clash))}")
    schema["$defs"] |= model.pop("$defs", {})
    schema["$defs"][model["title"]] = model

    properties = schema["properties"]
    properties["model"] = {"$ref": f"#/$defs/{model['title']}", "description": "The family's own settings."}
    properties["family"] |= {"const": family}
    properties["recipe"] |= {"enum": recipes, "default": "recommended"}
    for section in ("TrainerConfig", "ScheduleConfig"):
        monitor = schema["$defs"][section]["properties"]["monitor"]
        monitor["enum"] = [name for name in monitor["enum"] if name in MONITORS[family_task(family)]]
        if monitor["default"] not in monitor["enum"]:
            monitor["default"] = monitor["enum"][0]
    return schema
