"""The detector: pictures in over HTTP, boxes out, from the versions that the model repository calls live."""
