"""Alembic's environment and the steps that bring a job database up to date."""
