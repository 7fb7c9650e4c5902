"""The losses by name, without loading torch.

A classification target is called with the family's config, class counts int64 [C] and the number of training
pictures, and gives a module (logits [N, C], labels [N, C]) -> named terms and "loss". A detection target is
the family's size term (boxes, true boxes) -> float [M].
"""

from shared.core.registry import Entry, Registry

LOSSES = Registry(
    "loss",
    {
        "focal": Entry(
            "shared.losses.focal:build_focal",
            "Focal loss, rare classes weighted by their frequency among the training pictures.",
            task="classification",
        ),
        "bce": Entry(
            "shared.losses.bce:build_bce",
            "Binary cross-entropy on logits, every class and label alike.",
            task="classification",
        ),
        "squared": Entry(
            "shared.losses.box_regression:squared_size_loss",
            "Box size: squared difference, the person family's source.",
            task="detection",
        ),
        "sqrt": Entry(
            "shared.losses.box_regression:sqrt_size_loss",
            "Box size: squared difference of square roots, so that small boxes count more.",
            task="detection",
        ),
        "ciou": Entry(
            "shared.losses.box_regression:ciou_loss",
            "Box size: 1 − complete IoU of the whole decoded box.",
            task="detection",
        ),
    },
)
