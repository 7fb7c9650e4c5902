"""The network that a DefectsConfig describes."""

from torch import nn

from shared.families.defects.config import TASK, DefectsConfig
from shared.models.architectures import ARCHITECTURES
from shared.models.classifier import ClassifierSpec


def build(config: DefectsConfig) -> nn.Module:
    """An untrained shared.models.classifier.Classifier; `config.weights` is not read here."""
    network: nn.Module = ARCHITECTURES.load(config.architecture, TASK)(
        ClassifierSpec(
            classes=len(config.class_names),
            normalize=config.normalize,
            spatial_gate_norm=config.spatial_gate_norm,
            prior=config.prior,
            layer_scale=config.layer_scale,
            stochastic_depth=config.stochastic_depth,
            initial_weights=config.initial_weights,
        )
    )
    return network
