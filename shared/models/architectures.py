"""The networks by name, without loading torch.

A classification target is called with a shared.models.classifier.ClassifierSpec and gives a network with
`features`, `classify` and `activation_maps`; a detection target with its family's config.
"""

from shared.core.registry import Entry, Registry


def _convnext(name: str, summary: str) -> Entry:
    return Entry(f"shared.models.convnext:{name}", summary, task="classification")


def _resnet(name: str, summary: str) -> Entry:
    return Entry(f"shared.models.resnet:{name}", summary, task="classification")


ARCHITECTURES = Registry(
    "architecture",
    {
        "convnext_tiny": _convnext(
            "convnext_tiny", "ConvNeXt-Tiny: 27.8 M parameters, standard weights load from a file."
        ),
        "convnext_tiny_cbam": _convnext(
            "convnext_tiny_cbam", "ConvNeXt-Tiny with channel and spatial attention after stages 3 and 4."
        ),
        "convnext_pico": _convnext("convnext_pico", "Narrower ConvNeXt: 8.5 M parameters."),
        "convnext_pico_cbam": _convnext(
            "convnext_pico_cbam", "The narrower ConvNeXt with attention after stages 3 and 4."
        ),
        "convnext_zepto": _convnext(
            "convnext_zepto", "Smallest ConvNeXt: 1.9 M parameters, for small machines and small data."
        ),
        "convnext_zepto_cbam": _convnext(
            "convnext_zepto_cbam", "The smallest ConvNeXt with attention after stages 3 and 4."
        ),
        "resnet50": _resnet("resnet50", "ResNet-50: 23.5 M parameters, standard weights load from a file."),
        "resnet18_slim": _resnet(
            "resnet18_slim",
            "ResNet-18 of a quarter of the width: 0.7 M parameters, learns from scratch.",
        ),
        "resnet18_slim_cbam": _resnet(
            "resnet18_slim_cbam", "The slim ResNet-18 with attention after stages 3 and 4."
        ),
        "rvt": Entry(
            "shared.families.events.network:RVT",
            "Recurrent vision transformer: attention and a ConvLSTM per stage, for event streams.",
            task="stream_detection",
        ),
        "person_grid": Entry(
            "shared.families.person.network:PersonNetwork",
            "Nine 3×3 blocks and a grid of cells: the one network of the person family.",
            task="detection",
        ),
    },
)
