"""`sightline data preprocess`, `data events` and `data make events`: recordings of event cameras."""
