"""Class lists of event data sets, by name. Events spec, sections 8 and 14; components spec, section 16."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.core.registry import UnknownName
from shared.data.events.repairs import RecordingUnreadable


@dataclass(frozen=True)
class ClassList:
    """names: class names by class id. ignored: ids that the data set has and its benchmark leaves out.

    An id that is neither is an error: it would silently be another class, or none.
    """

    names: tuple[str, ...]
    ignored: frozenset[int] = frozenset()

    def check(self, ids: NDArray[np.uint32], name: str) -> None:
        """Raise RecordingUnreadable if `ids` hold one that this list does not have; `name` says where."""
        present = {int(number) for number in np.unique(ids)}
        unknown = sorted(present - set(range(len(self.names))) - self.ignored)
        if unknown:
            raise RecordingUnreadable(
                f"{name} holds class ids {unknown}, but the classes are "
                f"{', '.join(f'{number} {text}' for number, text in enumerate(self.names))}; choose another "
                f"list with --classes: {', '.join(CLASS_LISTS)}, or names separated by commas"
            )


CLASS_LISTS = {
    "etram3": ClassList(("pedestrian", "vehicle", "micro-mobility")),
    "etram8": ClassList(
        ("pedestrian", "car", "bicycle", "bus", "motorbike", "truck", "tram", "wheelchair"),
    ),
    "gen1": ClassList(("car", "pedestrian")),
    # The data set also has truck, bus, traffic sign and traffic light, which its benchmark leaves out.
    "gen4": ClassList(("pedestrian", "two-wheeler", "car"), frozenset({3, 4, 5, 6})),
}


def class_list(text: str) -> ClassList:
    """A list by name, or one of names in the order of their ids, separated by commas.

    Raises UnknownName for a single unknown name, ValueError for empty or repeated names.
    """
    if text in CLASS_LISTS:
        return CLASS_LISTS[text]
    if "," not in text:
        raise UnknownName("class list", text, list(CLASS_LISTS))
    names: Sequence[str] = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise ValueError(f"class names must be there and differ, got {text!r}")
    return ClassList(tuple(names))
