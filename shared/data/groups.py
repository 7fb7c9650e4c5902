"""Groups read from file names: pictures of one specimen or machine position, which splits keep together."""

import re
from dataclasses import replace

from shared.data.classification import ClassificationRecord, ClassificationSet


def group_by_name(dataset: ClassificationSet, pattern: str) -> ClassificationSet:
    """Return the set with each picture's group taken from its id by the regular expression `pattern`.

    The group is what the pattern's parentheses caught, joined by "_", or the whole match without any. Raises
    ValueError for a pattern that is none and for one that does not find anything in some picture's id: a
    picture without a group could end up on both sides.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    records = [*dataset.records, *dataset.unlabelled]
    unmatched = [record.image_id for record in records if not _group(compiled, record)]
    if unmatched:
        raise ValueError(
            f"{pattern!r} finds no group in {len(unmatched)} of {len(records)} file names, {unmatched[0]} "
            "among them; write one alternative for each kind of name, as in '^(A\\d+)|^(B\\d+)'"
        )
    return replace(
        dataset,
        records=[replace(record, group=_group(compiled, record)) for record in dataset.records],
        unlabelled=[replace(record, group=_group(compiled, record)) for record in dataset.unlabelled],
    )


def _group(pattern: re.Pattern[str], record: ClassificationRecord) -> str:
    match = pattern.search(record.image_id)
    if match is None:
        return ""
    return "_".join(filter(None, match.groups())) if pattern.groups else match.group()
