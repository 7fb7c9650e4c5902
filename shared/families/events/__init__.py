"""events: recurrent detection on event-camera streams (docs/families/events.md). Free of torch until used."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared.families.events.checkpoint import load_rvt_checkpoint, load_rvt_state

__all__ = ["load_rvt_checkpoint", "load_rvt_state"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from shared.families.events import checkpoint

        return getattr(checkpoint, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
