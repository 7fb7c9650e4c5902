"""Submit, watch, cancel, retry and list jobs over HTTP."""
