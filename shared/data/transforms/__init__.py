"""Random changes of training pictures, boxes included; the library behind them shows nowhere else."""

from shared.data.transforms.augmentation import Augmentation, build_augmentation, sample_generator

__all__ = ["Augmentation", "build_augmentation", "sample_generator"]
