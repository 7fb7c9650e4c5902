"""Training, evaluation and sweeps, and the worker that runs them as jobs."""
