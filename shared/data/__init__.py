"""Labelled pictures: readers, checks, splits, augmentation, synthetic sets and what training draws from."""
