"""The gate: no file becomes a version unless it does on held-out data what the network does."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from services.export.problems import GateRefused
from shared.repository.manifest import Precision

# Fewer pictures than this measure AP or F1 in steps too coarse for their bounds; the report says so.
FEW_PICTURES = 50


@dataclass(frozen=True, slots=True)
class Check:
    """One number of the report; without a bound it is there to be read."""

    name: str
    measured: float
    bound: float | None
    unit: str = ""

    @property
    def passed(self) -> bool:
        """NaN never passes."""
        return self.bound is None or self.measured <= self.bound


def quality_check(
    title: str,
    key: str,
    before: Mapping[str, float],
    after: Mapping[str, float],
    bound: float | None,
    *,
    both_ways: bool,
) -> Check:
    """Return the check of a metric, 0 to 1, by its key in the metrics of network and file.

    both_ways: a gain counts as a loss does. What neither could measure is NaN, and does not pass a bound.
    """
    old, new = before.get(key, math.nan), after.get(key, math.nan)
    change = abs(old - new) if both_ways else old - new
    return Check(f"{title} {'difference' if both_ways else 'loss'} ({old:.4f} to {new:.4f})", change, bound)


def verdict(
    found: Sequence[Check],
    precision: Precision,
    counts: Mapping[str, int],
    notes: Sequence[str],
    *,
    without_truth: str | None,
) -> dict[str, Any]:
    """Return the parity report for the manifest.

    counts: first what was judged, such as pictures, then how many there are, and what they hold.
    without_truth: why nothing can be compared, if so. Raises GateRefused for it, and else with the first
    number that failed, its bound and what was measured.
    """
    report: dict[str, Any] = {
        "precision": precision,
        **counts,
        "checks": [asdict(check) | {"passed": check.passed} for check in found],
        "notes": list(notes),
    }
    if without_truth is not None:
        raise GateRefused(without_truth, report)
    unit, judged = next(iter(counts.items()))
    failed = [check for check in found if not check.passed]
    if failed:
        worst = failed[0]
        raise GateRefused(
            f"{worst.name}: {worst.measured:.6g} {worst.unit}".rstrip()
            + f", and {precision} allows {worst.bound:.6g} (on {judged} held-out {unit})"
            + (f"; {len(failed) - 1} more checks failed" if len(failed) > 1 else ""),
            report,
        )
    return report
