"""What can go wrong with a job, in the words that the caller reads."""

from shared.core.problems import BadRequest, Conflict, NotFound, Unavailable, UnprocessableContent


class UnknownJob(NotFound):
    code, title = "unknown_job", "Unknown job"


class IdempotencyConflict(Conflict):
    code, title = "idempotency_conflict", "Idempotency key used for another request"


class WrongJobState(Conflict):
    code, title = "wrong_job_state", "Not possible in this state"


class InvalidCursor(BadRequest):
    code, title = "invalid_cursor", "Invalid cursor"


class InvalidParams(UnprocessableContent):
    code, title = "invalid_params", "Wrong job parameters"


class DatabaseUnavailable(Unavailable):
    code, title = "database_unavailable", "Job database not available"


class LeaseLost(Exception):
    """The job belongs to someone else by now, or is over; whoever held the lease must stop writing."""
