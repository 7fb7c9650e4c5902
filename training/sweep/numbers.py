"""What the runs of a sweep are compared by, for each task; higher is better. Free of torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Compared:
    """headings: columns by number, as in a run's final metrics. default: the one that ranks runs."""

    headings: Mapping[str, str]
    default: str
    of_rarest: Mapping[str, str] = field(default_factory=dict)  # column by number of the rarest class

    def names(self) -> list[str]:
        """Every number that can rank runs."""
        return [*self.headings, *(f"rare_{name}" for name in self.of_rarest)]


COMPARED: Mapping[str, Compared] = MappingProxyType(
    {
        "detection": Compared({"ap50": "AP50", "ap": "AP", "f1": "F1"}, default="ap"),
        "classification": Compared(
            {"macro_f1": "macro F1", "map": "mAP", "micro_f1": "micro F1"},
            default="macro_f1",
            of_rarest={"recall": "recall", "f1": "F1"},
        ),
    }
)


def rarest_class(per_class: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Return the name of the class with the fewest training images; None where there are no classes."""
    return min(per_class, key=lambda name: per_class[name]["training_images"], default=None)


def numbers_of(result: Mapping[str, Any] | None, compared: Compared) -> dict[str, float | None]:
    """Return a training job's result as the numbers in `compared.names()`; None for those it has not."""
    metrics = (result or {}).get("metrics", {})
    per_class = (result or {}).get("per_class", {})
    rarest = per_class.get(rarest_class(per_class), {})
    return {
        **{name: metrics.get(name) for name in compared.headings},
        **{f"rare_{name}": rarest.get(name) for name in compared.of_rarest},
    }
