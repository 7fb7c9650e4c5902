"""Whether a version's files are, byte for byte, the ones its manifest lists."""

from pathlib import Path

from shared.core.files import PathEscapesRoot, resolve_under, sha256_file
from shared.repository.manifest import MANIFEST_FILE, MODEL_FILE, FileEntry, Manifest, read_manifest
from shared.repository.problems import CorruptVersion


def list_files(folder: Path) -> dict[str, FileEntry]:
    """Return size and SHA-256 of every file in `folder` but its manifest."""
    return {
        path.name: FileEntry(sha256=sha256_file(path), bytes=path.stat().st_size)
        for path in sorted(folder.iterdir())
        if path.name != MANIFEST_FILE
    }


def verify_version(folder: Path, *, name: str, version: int) -> Manifest:
    """Return the manifest of the version in `folder` once every file has been compared with it.

    Raises CorruptVersion, with the file and both values, for a file that is missing, altered or not
    listed, or a manifest that belongs to another version; UnsupportedManifest as `read_manifest` does.
    """
    manifest = read_manifest(folder / MANIFEST_FILE)
    if (manifest.name, manifest.version) != (name, version):
        raise CorruptVersion(
            f"{folder / MANIFEST_FILE} is the manifest of {manifest.name} version {manifest.version}, "
            f"not of {name} version {version}; versions cannot be copied or renamed by hand"
        )
    if MODEL_FILE not in manifest.files:
        raise CorruptVersion(f"{folder / MANIFEST_FILE} lists no {MODEL_FILE}; export the model again")
    for file_name, entry in manifest.files.items():
        _verify_file(folder, file_name, entry)
    unlisted = {path.name for path in folder.iterdir()} - set(manifest.files) - {MANIFEST_FILE}
    if unlisted:
        raise CorruptVersion(f"{folder} holds files that its manifest does not list: {sorted(unlisted)}")
    return manifest


def _verify_file(folder: Path, file_name: str, entry: FileEntry) -> None:
    try:
        path = resolve_under(folder, file_name)
        size = path.stat().st_size
    except (PathEscapesRoot, FileNotFoundError) as error:
        raise CorruptVersion(
            f"{folder / file_name} is missing: the manifest lists it", file=file_name
        ) from error
    # The size is compared first: it is cheap, and it finds the commonest damage, a copy that broke off.
    if size != entry.bytes:
        raise CorruptVersion(
            f"{path} has {size} bytes and its manifest says {entry.bytes}; restore it or export again",
            file=file_name,
        )
    digest = sha256_file(path)
    if digest != entry.sha256:
        raise CorruptVersion(
            f"{path} has sha256 {digest} and its manifest says {entry.sha256}; restore it or export again",
            file=file_name,
            expected=entry.sha256,
            found=digest,
        )
