"""How long a row takes a thread, from what the last batches took."""

import threading
from collections import deque

_KEPT = 16
_SURE = 5  # measurements; before that, first runs and chance say more than the model
_SLOWEST_LEFT_OUT = 2


class Pace:
    """Seconds of one thread for one row; called from any thread.

    The mean of the last measurements without the slowest ones, so that a cold start, a swapped-out page or
    one huge picture does not pass for the pace of everything that waits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: deque[float] = deque(maxlen=_KEPT)
        self.seconds_per_row = 0.0  # 0 before the first measurement
        self.is_sure = False  # whether it is good enough to refuse by

    def measured(self, seconds_per_row: float) -> None:
        """Take one more measurement into account."""
        with self._lock:
            self._last.append(seconds_per_row)
            self.is_sure = len(self._last) >= _SURE
            counted = sorted(self._last)[:-_SLOWEST_LEFT_OUT] if self.is_sure else self._last
            self.seconds_per_row = sum(counted) / len(counted)
