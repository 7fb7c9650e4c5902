"""Many runs of one family through the job queue: grids, Optuna searches, and what they came to."""
