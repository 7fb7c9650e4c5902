"""Splits go by several names; asking for one finds the others."""

_VALIDATION = ("val", "valid", "validation")


def alternatives(split: str) -> list[str]:
    """Return the names under which `split` may be found, the one asked for first."""
    others = _VALIDATION if split in _VALIDATION else ()
    return list(dict.fromkeys([split, *others]))
