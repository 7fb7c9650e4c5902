"""Models, their queues and what is done to a picture. Knows nothing of HTTP, so that any transport fits."""
