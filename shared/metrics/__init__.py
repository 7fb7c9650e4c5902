"""Evaluators: what a model gets right, from predictions and truth."""
