"""Acceptance of a running Compose project: train, export and call through it, break it, and look again."""
