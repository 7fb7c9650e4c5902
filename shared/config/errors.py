"""What is wrong with a configuration, in words that lead to the right one."""

import difflib
from collections.abc import Iterable, Sequence


class ConfigError(ValueError):
    """A run was described wrongly. `problems` holds one line per mistake; the text joins them."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


def nearest(wrong: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that `wrong` was most likely meant to be, None if none is near.

    Whole dotted keys are compared first, then last parts, so that `lr` finds `optimizer.lr` and
    `trainer.batchsize` finds `trainer.batch_size`.
    """
    candidates = list(candidates)
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    whole = difflib.get_close_matches(wrong.lower(), by_lower, n=1, cutoff=0.75)
    if whole:
        return by_lower[whole[0]]
    last_parts: dict[str, str] = {}
    for candidate in candidates:
        last_parts.setdefault(candidate.lower().rpartition(".")[2], candidate)
    last = difflib.get_close_matches(wrong.lower().rpartition(".")[2], last_parts, n=1, cutoff=0.7)
    return last_parts[last[0]] if last else None


def unknown(what: str, wrong: str, candidates: Iterable[str]) -> str:
    """Return the message for a name that does not exist: the nearest right one and all allowed ones."""
    candidates = sorted(candidates)
    meant = nearest(wrong, candidates)
    question = f" Did you mean {meant!r}?" if meant else ""
    return f"unknown {what} {wrong!r}.{question} Known: {', '.join(candidates) or 'none'}."
