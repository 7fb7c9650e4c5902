"""Generated data sets: seeded, with exact labels, for demonstrations and tests."""
