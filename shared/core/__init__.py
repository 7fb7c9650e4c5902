"""Settings, files, problems, logging, metrics and the HTTP shell that every service shares."""
