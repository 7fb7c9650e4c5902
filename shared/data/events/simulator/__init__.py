"""Simulated event cameras: scenes with known boxes, seen by a sensor with thresholds, noise and dead time."""
