"""What was wrong with a recording and set right while it was read, counted by kind."""

from collections import Counter
from enum import StrEnum


class RecordingUnreadable(ValueError):
    """A recording or its labels cannot be used; the message names the file, what is wrong and what to do."""


class Repair(StrEnum):
    """Kinds of repairs. Whatever is left out or changed is counted under one of them."""

    CUT_OFF = "cut_off"
    UNEQUAL_COLUMNS = "unequal_columns"
    TIME_BACKWARDS = "time_backwards"
    NEGATIVE_TIME = "negative_time"
    OUTSIDE_SENSOR = "outside_sensor"
    POLARITY = "polarity"
    UNKNOWN_WORDS = "unknown_words"
    BEFORE_FIRST_TIME = "before_first_time"
    SIZE_FROM_EVENTS = "size_from_events"
    BOX_NOT_FINITE = "box_not_finite"
    BOX_WITHOUT_AREA = "box_without_area"
    BOX_NEGATIVE_TIME = "box_negative_time"
    LABELS_OUT_OF_ORDER = "labels_out_of_order"
    LABELS_AFTER_LAST_EVENT = "labels_after_last_event"


MEANING = {
    Repair.CUT_OFF: "bytes of a last record that is not whole, left out",
    Repair.UNEQUAL_COLUMNS: "values of columns that are longer than the shortest, left out",
    Repair.TIME_BACKWARDS: "events earlier than one before them, moved to its time",
    Repair.NEGATIVE_TIME: "events before time zero, left out",
    Repair.OUTSIDE_SENSOR: "events beyond the sensor, left out",
    Repair.POLARITY: "polarities other than -1, 0 and 1, taken as 0 below and 1 above",
    Repair.UNKNOWN_WORDS: "words of a reserved type, left out",
    Repair.BEFORE_FIRST_TIME: "events before the first time stamp or row, left out",
    Repair.SIZE_FROM_EVENTS: "the file does not say the sensor's size; it was taken from the events",
    Repair.BOX_NOT_FINITE: "boxes with a coordinate that is not a number, left out",
    Repair.BOX_WITHOUT_AREA: "boxes without width or height, left out",
    Repair.BOX_NEGATIVE_TIME: "boxes before time zero, left out",
    Repair.LABELS_OUT_OF_ORDER: "boxes earlier than the one before them, sorted in",
    Repair.LABELS_AFTER_LAST_EVENT: "boxes more than 50 ms after the last event, kept",
}


class Repairs:
    """Counts by kind; grows while a recording is read."""

    def __init__(self) -> None:
        self._counts: Counter[Repair] = Counter()

    def count(self, kind: Repair, number: int = 1) -> None:
        """Add `number` repairs of a kind."""
        if number:
            self._counts[kind] += number

    def __getitem__(self, kind: Repair) -> int:
        return self._counts[kind]

    def as_dict(self) -> dict[str, int]:
        """Counts above zero, in the order of `Repair`."""
        return {kind.value: self._counts[kind] for kind in Repair if self._counts[kind]}
