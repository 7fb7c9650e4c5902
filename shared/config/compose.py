"""From a recipe and `key=value` overrides to a checked RunConfig.

Hydra composes (groups beside this file, recipes beside their family), pydantic checks. Hydra is imported
only when something is composed, since reading its grammar costs a tenth of a second.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shared.config.errors import ConfigError, unknown
from shared.config.keys import explain, group_names, group_options, is_key, unknown_key
from shared.config.monitors import wrong_monitors
from shared.config.schema import RunConfig
from shared.config.task_keys import keys_without_effect

GROUPS_FOLDER = Path(__file__).parent / "groups"

_compose_lock = threading.Lock()  # Hydra keeps its state in one global singleton


def recipe_names(family: str) -> list[str]:
    """Return the names of a family's recipes; ConfigError if there is no such family."""
    from shared.families.registry import recipes_dir

    _check_family(family)
    return sorted(path.stem for path in recipes_dir(family).glob("*.yaml"))


def compose_run(family: str, recipe: str = "recommended", overrides: Sequence[str] = ()) -> RunConfig:
    """Return the checked description of a run.

    `overrides` are Hydra's `key=value`: a key of the run (`trainer.max_epochs=3`, `model.grid_size=13`) or a
    group's choice (`optimizer=sgd`). Raises ConfigError for whatever is wrong in them, naming the nearest
    right key and what is allowed there.
    """
    recipes = recipe_names(family)
    if recipe not in recipes:
        raise ConfigError(unknown(f"recipe of {family!r}", recipe, recipes))
    checked = [_check_override(family, override) for override in overrides]
    return validate_run(_compose(family, recipe, checked) | {"family": family, "recipe": recipe})


def validate_run(values: dict[str, Any]) -> RunConfig:
    """Return `values` (as in config.yaml) as a RunConfig with the family's defaults filled in.

    Raises ConfigError, one line per mistake.
    """
    from pydantic import ValidationError

    from shared.families.registry import config_class, family_task

    family = str(values.get("family"))
    _check_family(family)
    problems: list[str] = []
    model = values.get("model") or {}
    try:
        model = config_class(family)(**model).model_dump(mode="json")
    except ValidationError as error:
        problems += explain(error, family, under="model")
    except TypeError as error:
        raise ConfigError(f"model: expected keys and values, got {model!r}") from error
    try:
        run = RunConfig.model_validate({**values, "model": model})
    except ValidationError as error:
        problems += explain(error, family)
    else:
        task = family_task(family)
        problems += [*wrong_monitors(run, task), *keys_without_effect(run, task)]
    if problems:
        raise ConfigError(problems)
    return run


def apply_overrides(config: RunConfig, overrides: Sequence[str]) -> RunConfig:
    """Return `config` with `key=value` overrides of single keys; raises ConfigError as `compose_run`."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    values = OmegaConf.create(config.model_dump(mode="json"))
    for text in overrides:
        checked = _check_override(config.family, text)
        if not checked.startswith("++"):
            raise ConfigError(f"override {text!r}: a resumed run takes single keys, no choice of a group")
        parsed = OverridesParser.create().parse_override(checked)
        OmegaConf.update(values, parsed.key_or_group, parsed.value())
    changed = OmegaConf.to_container(values)
    assert isinstance(changed, dict)
    return validate_run({str(key): value for key, value in changed.items()})


def load_run_config(path: Path) -> RunConfig:
    """Read a run folder's config.yaml. Raises ConfigError, or FileNotFoundError where there is none."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {type(values).__name__}, not the keys of a run")
    return validate_run(values)


def dump_run_config(config: RunConfig) -> str:
    """Return the YAML text that `load_run_config` reads back to an equal RunConfig."""
    import yaml

    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _check_family(family: str) -> None:
    from shared.families.registry import family_names

    names = family_names()
    if family not in names:
        raise ConfigError(unknown("family", family, names))


def _check_override(family: str, text: str) -> str:
    """Return `text` in the form that Hydra takes for a checked key; ConfigError otherwise."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if "${" in text:  # would read this machine's environment on behalf of whoever sent it
        raise ConfigError(f"override {text!r}: references (${{…}}) are not allowed; write the value itself")
    try:
        parsed = OverridesParser.create().parse_override(text)
    except HydraException as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"override {text!r} is not of the form key=value ({reason}); quote values that hold "
            "spaces, commas, brackets or equal signs: key='a, b'"
        ) from error
    key = parsed.key_or_group
    if parsed.is_delete():
        raise ConfigError(f"override {text!r}: a key cannot be removed; set it: {key}=value")
    if parsed.is_sweep_override():
        raise ConfigError(
            f"override {text!r}: a run takes one value; for several use "
            f"`sightline sweep {family} --grid {text.lstrip('+')}`"
        )
    if parsed.package is not None:
        raise ConfigError(
            f"override {text!r}: packages (@{parsed.package}) are not supported; use {key}=value"
        )
    if key in group_names(GROUPS_FOLDER):
        options = group_options(GROUPS_FOLDER, key)
        if parsed.value() not in options:
            raise ConfigError(
                unknown(f"choice for {key}", str(parsed.value()), options)
                + f" (Single values: {key}.<name>=value.)"
            )
        return f"{key}={parsed.value()}"
    if key in ("family", "recipe") or not is_key(family, key):
        raise ConfigError(unknown_key(key, family))
    return f"++{text.lstrip('+')}"


def _compose(family: str, recipe: str, overrides: list[str]) -> dict[str, Any]:
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from shared.families.registry import recipes_dir

    searchpath = f"hydra.searchpath=[file://{GROUPS_FOLDER}]"
    try:
        with (
            _compose_lock,
            initialize_config_dir(config_dir=str(recipes_dir(family).resolve()), version_base=None),
        ):
            composed = compose(recipe, overrides=[searchpath, *overrides])
        values = OmegaConf.to_container(composed, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(f"recipe {recipe!r} of {family!r} does not compose: {error}") from error
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}
