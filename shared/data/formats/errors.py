"""The error that readers raise when a data set as a whole cannot be used."""


class DatasetUnreadable(ValueError):
    """A data set as a whole cannot be read; the message says why and what would be right."""
