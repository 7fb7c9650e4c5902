"""Pictures of rare classes drawn more often: repeat factor sampling."""

from dataclasses import replace

import numpy as np

from shared.data.classification import ClassificationSet


def repeat_rare(dataset: ClassificationSet, threshold: float, seed: int = 0) -> ClassificationSet:
    """Return the set with every picture r times over, in which rare classes are no longer quite so rare.

    A class that the share f of pictures holds has r = max(1, √(threshold / f)); a picture the largest r of
    its classes, 1 without any. Of a fraction in r a whole repeat or none is made, drawn by `seed` (Gupta et
    al. 2019, "LVIS", section 5.1). threshold: 0..1; classes at least that frequent are not repeated. Repeats
    are the same record objects.
    """
    shares = dataset.class_counts() / max(1, len(dataset))
    factors = np.sqrt(np.divide(threshold, shares, out=np.ones_like(shares), where=shares > 0))
    rng = np.random.default_rng(seed)
    records = []
    for record in dataset.records:
        repeats = max(1.0, factors[record.labels].max(initial=1.0))
        whole = int(repeats)
        records += [record] * (whole + int(rng.random() < repeats - whole))
    return replace(dataset, records=records)
