"""The servers that the detector is compared with: one small app and one list of pinned packages for each."""
