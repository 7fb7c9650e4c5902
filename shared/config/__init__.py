"""Description of a training run: groups, recipes, overrides, and the check of all of them. Torch-free."""

from shared.config.compose import (
    apply_overrides,
    compose_run,
    dump_run_config,
    load_run_config,
    recipe_names,
    validate_run,
)
from shared.config.errors import ConfigError, nearest, unknown
from shared.config.schema import (
    AugmentationConfig,
    DataConfig,
    OptimizerConfig,
    RunConfig,
    ScheduleConfig,
    TrackingConfig,
    TrainerConfig,
)

__all__ = [
    "AugmentationConfig",
    "ConfigError",
    "DataConfig",
    "OptimizerConfig",
    "RunConfig",
    "ScheduleConfig",
    "TrackingConfig",
    "TrainerConfig",
    "apply_overrides",
    "compose_run",
    "dump_run_config",
    "load_run_config",
    "nearest",
    "recipe_names",
    "unknown",
    "validate_run",
]
