"""Preprocessed recordings as clips: what training and evaluation of recurrent detectors draw."""
