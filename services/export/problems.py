"""What can keep a run from becoming a version."""

from shared.core.problems import Conflict, NotFound, UnprocessableContent


class UnknownRun(NotFound):
    code, title = "unknown_run", "Unknown run"


class IncompleteRun(Conflict):
    """The run is there, but it lacks weights or data, or its parts do not fit together."""

    code, title = "incomplete_run", "Run cannot be exported"


class UnsupportedOption(UnprocessableContent):
    code, title = "unsupported_option", "Not possible for a model of this task"


class GateRefused(Exception):
    """The exported file does not do what the network does. `report` holds every number."""

    def __init__(self, detail: str, report: dict[str, object]) -> None:
        super().__init__(detail)
        self.detail = detail
        self.report = report
