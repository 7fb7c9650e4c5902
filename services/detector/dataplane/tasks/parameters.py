"""What a request says beside its picture, as a protocol's plain parameters: checked here, task by task."""

import difflib
import math
from collections.abc import Collection, Mapping
from typing import Any

from services.detector.dataplane.problems import WrongParameter


def refuse_unknown(parameters: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise WrongParameter for a parameter that is not in `known`, naming the nearest that is."""
    for name in parameters:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"
            raise WrongParameter(f"this model knows no parameter {name[:80]!r} for a picture; {hint}")


def number(parameters: Mapping[str, Any], name: str, *, least: float, most: float) -> float | None:
    """Return a number from `least` to `most`, None where it is not stated; raises WrongParameter."""
    value = parameters.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise WrongParameter(f"{name} has to be a number from {least:g} to {most:g}, not {value!r}")
    return float(value)


def integer(parameters: Mapping[str, Any], name: str, *, least: int, most: int) -> int | None:
    """Return an integer from `least` to `most`, None where it is not stated; raises WrongParameter."""
    value = number(parameters, name, least=least, most=most)
    if value is None:
        return None
    if not math.floor(value) == value:
        raise WrongParameter(f"{name} has to be an integer, not {value!r}")
    return int(value)
