"""Binary cross-entropy of independent labels."""

from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn


class BinaryCrossEntropy(nn.Module):
    """logits float [N, C], labels float [N, C] in 0..1 -> {"loss"}: the mean over pictures and classes."""

    def forward(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return {"loss": F.binary_cross_entropy_with_logits(logits.float(), labels.float())}


def build_bce(config: Any, class_counts: NDArray[np.int64], images: int) -> BinaryCrossEntropy:
    """Counts are not used: every class and label weighs the same."""
    return BinaryCrossEntropy()
