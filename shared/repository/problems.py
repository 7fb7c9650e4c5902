"""What can be wrong with a request to the model repository, or with what lies in it."""

from shared.core.problems import Conflict, NotFound, Problem, UnprocessableContent


class InvalidName(UnprocessableContent):
    code, title = "invalid_name", "Not a valid name"


class UnknownModel(NotFound):
    code, title = "unknown_model", "Unknown model"


class UnknownVersion(NotFound):
    """Also raised for an alias that points nowhere: there is no such version to be had."""

    code, title = "unknown_version", "Unknown version"


class VersionInUse(Conflict):
    code, title = "version_in_use", "Version in use"


class CorruptVersion(Problem):
    """A version's files are not what its manifest says; it must not be served."""

    status, code, title = 500, "corrupt_version", "Corrupt model version"


class UnsupportedManifest(Problem):
    """A manifest written by another release, whose fields this one does not know."""

    status, code, title = 500, "unsupported_manifest", "Manifest of an unknown schema"
