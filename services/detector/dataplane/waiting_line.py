"""The order in which work is taken: by priority level, then by arrival. Not thread-safe by itself."""

import bisect
from operator import attrgetter

from services.detector.dataplane.work import Ticket

_order = attrgetter("order")


class WaitingLine:
    """Tickets in their order, and how many rows they will bring together."""

    def __init__(self) -> None:
        self._tickets: list[Ticket] = []
        self.rows = 0

    def __bool__(self) -> bool:
        return bool(self._tickets)

    def add(self, ticket: Ticket) -> None:
        """Put `ticket` behind those of its level and above."""
        bisect.insort(self._tickets, ticket, key=_order)
        self.rows += ticket.rows

    def remove(self, ticket: Ticket) -> bool:
        """Take `ticket` out; False where it is not here any more."""
        position = bisect.bisect_left(self._tickets, ticket.order, key=_order)
        if position == len(self._tickets) or self._tickets[position] is not ticket:
            return False
        del self._tickets[position]
        self.rows -= ticket.rows
        return True

    def oldest_at(self) -> float:
        """Return when the one that has waited longest came, in time.monotonic(); there has to be one."""
        return min(ticket.submitted_at for ticket in self._tickets)

    def fills(self, max_rows: int) -> bool:
        """Return whether waiting longer could not add to a batch of at most `max_rows` rows."""
        rows = 0
        for ticket in self._tickets:
            rows += ticket.rows
            if rows >= max_rows:
                return True
        return False

    def take(self, max_rows: int, now: float) -> tuple[list[Ticket], list[Ticket]]:
        """Return the next batch, and what was before its end and past its deadline.

        A batch is filled in order while the rows fit; nothing is split and nothing overtakes. What brings
        more rows than `max_rows` is a batch of its own.
        """
        batch: list[Ticket] = []
        expired: list[Ticket] = []
        taken = rows = 0
        for ticket in self._tickets:
            if now >= ticket.deadline:
                expired.append(ticket)
            elif not batch or rows + ticket.rows <= max_rows:
                batch.append(ticket)
                rows += ticket.rows
            else:
                break
            taken += 1
            if rows >= max_rows:
                break
        del self._tickets[:taken]
        self.rows -= rows + sum(ticket.rows for ticket in expired)
        return batch, expired

    def take_all(self) -> list[Ticket]:
        """Return everything that waits and leave nothing."""
        tickets, self._tickets, self.rows = self._tickets, [], 0
        return tickets
