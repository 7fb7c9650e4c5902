"""person: one-class person detection for fixed cameras (specs/person.md). Loads no torch by itself."""
