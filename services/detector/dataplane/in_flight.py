"""How much work this process has, over all versions: whoever is alone may use every core."""

import threading


class InFlight:
    """Counts work from its arrival in a queue until its answer; called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.count = 0

    def enter(self, count: int) -> None:
        """Count `count` more."""
        with self._lock:
            self.count += count

    def leave(self, count: int = 1) -> None:
        """Count `count` less."""
        with self._lock:
            self.count -= count
