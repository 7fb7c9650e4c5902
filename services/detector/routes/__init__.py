"""The native REST transport over the data plane."""
