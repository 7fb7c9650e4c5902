"""The detector's commands: `sightline predict` and `sightline bench`."""
