"""What a transport hands to a queue, and what it gets back for it."""

from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

from services.detector.dataplane.session import Tensors

R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")

DropReason = Literal["client_gone", "deadline", "drain"]

# As in Triton, 1 is the highest level, a larger number a lower one, and 0 stands for the usual level. What
# says nothing has room above it and below it.
USUAL_LEVEL = 10


class Work(Protocol[R_co]):
    """What a transport hands in: both steps run in a worker thread, `finish` after `prepare`."""

    @property
    def rows(self) -> int:
        """How many rows `prepare` will bring, 1 or more; known before it is called."""

    def prepare(self) -> Tensors:
        """Return the graph's inputs, each [rows, …]. What it raises becomes this work's answer."""

    def finish(self, outputs: Tensors) -> R_co:
        """Return the answer from this work's rows of the graph's outputs."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Where a picture's time went, in seconds; in a batch the stages are those of the whole batch."""

    queue_s: float
    preprocess_s: float
    compute_s: float
    postprocess_s: float


@dataclass(eq=False, slots=True)
class Ticket(Generic[R]):
    """One piece of work in a queue; `future` yields its value and timing."""

    work: Work[R]
    rows: int
    order: tuple[int, int]  # priority level, then arrival
    submitted_at: float  # time.monotonic(), like `deadline`
    deadline: float
    future: "Future[tuple[R, Timing]]" = field(default_factory=Future)
    # Set when its client goes while a worker already has it; looked at before compute.
    dropped: DropReason | None = None
