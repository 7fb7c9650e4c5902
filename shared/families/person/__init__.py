"""person: one-class person detection for fixed cameras (docs/families/person.md). Free of torch."""
