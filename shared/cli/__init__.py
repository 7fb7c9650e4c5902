"""The `sightline` command: what every sub-command shares, and those that belong to no package."""
