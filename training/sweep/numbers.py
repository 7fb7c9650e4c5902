"""What the runs of a sweep are compared by, for each task; higher is better. Free of torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Compared:
    """headings: columns by number, as in a run's final metrics. default: the one that ranks runs.

    of_each: columns by number of every class; in a table only where `of_rarest` picks no class out.
    """

    headings: Mapping[str, str]
    default: str
    of_rarest: Mapping[str, str] = field(default_factory=dict)  # column by number of the rarest class
    of_each: Mapping[str, str] = field(default_factory=dict)

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
            of_each={"recall": "recall"},
        ),
        "stream_detection": Compared(
            {
                "ap50": "AP50",
                "ap": "AP",
                "ap_small": "AP small",
                "ap_medium": "AP medium",
                "ap_large": "AP large",
                "recall_at_rest": "recall at rest",
            },
            default="ap",
            of_each={"ap": "AP"},
        ),
    }
)


def rarest_class(per_class: Mapping[str, Mapping[str, Any]], compared: Compared) -> str | None:
    """Return the name of the class with the fewest training images; None where the task picks out none."""
    if not compared.of_rarest:
        return None
    return min(per_class, key=lambda name: per_class[name]["training_images"], default=None)


def of_each_class(per_class: Mapping[str, Mapping[str, Any]], compared: Compared) -> dict[str, float | None]:
    """Return the numbers of every class by the heading of their column: "AP of car"."""
    return {
        f"{text} of {name}": numbers[number]
        for number, text in compared.of_each.items()
        for name, numbers in per_class.items()
    }


def numbers_of(result: Mapping[str, Any] | None, compared: Compared) -> dict[str, float | None]:
    """Return a training job's result as the numbers in `compared.names()`; None for those it has not."""
    metrics = (result or {}).get("metrics", {})
    per_class = (result or {}).get("per_class", {})
    rarest = per_class.get(rarest_class(per_class, compared) or "", {})
    return {
        **{name: metrics.get(name) for name in compared.headings},
        **{f"rare_{name}": rarest.get(name) for name in compared.of_rarest},
    }
