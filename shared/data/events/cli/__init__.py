"""Commands about recordings of event cameras: `sightline data preprocess`, `data events` and `data make events`."""

from shared.data.events.cli.make import events as make_events
from shared.data.events.cli.overview import events
from shared.data.events.cli.preprocess import preprocess

__all__ = ["events", "make_events", "preprocess"]
