"""Versions of models on disk, and the aliases that say which of them is live.

    <root>/<name>/<version>/{model.onnx, manifest.json}    never changes once it is there
    <root>/<name>/aliases.json                             {"live": 3, "previous": 2}
    <root>/<name>/config.pbtxt                             Triton's configuration, follows the aliases

Names that begin with a dot are unfinished or internal; every reader, Triton too, passes over them.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from shared.core.files import resolve_under, sync, write_atomic
from shared.core.problems import Conflict
from shared.repository.locking import model_lock, try_lock
from shared.repository.manifest import (
    MANIFEST_FILE,
    MODEL_FILE,
    FileEntry,
    Manifest,
    ManifestDraft,
    complete,
    read_manifest,
)
from shared.repository.names import MODEL_NAME, check_alias_name, check_model_name
from shared.repository.problems import CorruptVersion, UnknownModel, UnknownVersion, VersionInUse
from shared.repository.triton_config import model_config
from shared.repository.verification import list_files, verify_version

LIVE, PREVIOUS = "live", "previous"
ALIASES_FILE = "aliases.json"
CONFIG_FILE = "config.pbtxt"
HIGHEST_VERSION_FILE = ".highest_version"
BUILDING_PREFIX = ".building-"
REMOVED_PREFIX = ".removed-"


class ModelRepository:
    """A folder of models. It holds no state: every call reads the disk, so processes may share it."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    # What is there

    def models(self) -> list[str]:
        """Return the names of all models that have a version, sorted."""
        if not self.root.is_dir():
            return []
        folders = (path.name for path in self.root.iterdir() if path.is_dir())
        return sorted(name for name in folders if MODEL_NAME.fullmatch(name) and self._versions(name))

    def versions(self, name: str) -> list[int]:
        """Return a model's versions in ascending order. Raises UnknownModel if it has none."""
        versions = self._versions(check_model_name(name))
        if not versions:
            known = ", ".join(self.models()) or "none"
            raise UnknownModel(f"no model is called {name!r}; there are: {known}", model=name)
        return versions

    def path(self, name: str, version: int) -> Path:
        """Return the folder of a version. Raises UnknownModel or UnknownVersion."""
        versions = self.versions(name)
        if version not in versions:
            listed = ", ".join(map(str, versions))
            raise UnknownVersion(
                f"{name} has no version {version}; there are: {listed}", model=name, version=version
            )
        return resolve_under(self.root, f"{name}/{version}")

    def manifest(self, name: str, version: int) -> Manifest:
        """Return a version's manifest, without comparing the files with it (see `verify`)."""
        return read_manifest(self.path(name, version) / MANIFEST_FILE)

    def verify(self, name: str, version: int) -> Manifest:
        """Compare every file of a version with its manifest and return the manifest.

        Raises CorruptVersion with the file and the two digests, or UnsupportedManifest.
        """
        return verify_version(self.path(name, version), name=name, version=version)

    # Aliases

    def aliases_path(self, name: str) -> Path:
        """Return the file that changes whenever an alias of this model does."""
        return self._folder(name) / ALIASES_FILE

    def aliases(self, name: str) -> dict[str, int]:
        """Return the aliases of a model, `{}` if it has none. Raises UnknownModel, CorruptVersion."""
        self.versions(name)
        return self._aliases(name)

    def resolve(self, name: str, version: int | str | None = None) -> int:
        """Return the number of a version given by number, by alias, or not at all (the live one)."""
        # A longer row of digits is no version, and neither int() nor JSON takes one of any length.
        if isinstance(version, str) and version.isascii() and version.isdecimal() and len(version) < 10:
            version = int(version)
        if isinstance(version, int):
            self.path(name, version)
            return version
        alias = LIVE if version is None else version
        aliases = self.aliases(name)
        if alias not in aliases:
            hint = f"; promote one of its versions {self.versions(name)}" if alias == LIVE else ""
            known = ", ".join(sorted(aliases)) or "none"
            raise UnknownVersion(
                f"{name} has no version called {alias!r}, its aliases are: {known}{hint}",
                model=name,
                version=alias,
            )
        self.path(name, aliases[alias])
        return aliases[alias]

    def set_alias(self, name: str, alias: str, version: int | None) -> None:
        """Let `alias` name `version`, or nothing if that is None. The version's files are verified first."""
        check_alias_name(alias)
        self.versions(name)
        if version is not None:
            self.verify(name, version)
        with model_lock(self._folder(name)):
            aliases = self._aliases(name)
            if version is None:
                aliases.pop(alias, None)
            else:
                self.path(name, version)  # again: it may have been removed meanwhile
                aliases[alias] = version
            self._write_aliases(name, aliases)

    def promote(self, name: str, version: int) -> None:
        """Make a version live and the one that was live previous, once its files are verified."""
        self.verify(name, version)
        with model_lock(self._folder(name)):
            self.path(name, version)
            aliases = self._aliases(name)
            if LIVE in aliases and aliases[LIVE] != version:
                aliases[PREVIOUS] = aliases[LIVE]
            self._write_aliases(name, aliases | {LIVE: version})

    def rollback(self, name: str) -> int:
        """Exchange live and previous and return the version that is live now. Raises Conflict."""
        aliases = self.aliases(name)
        if PREVIOUS in aliases:
            self.verify(name, aliases[PREVIOUS])
        with model_lock(self._folder(name)):
            aliases = self._aliases(name)
            if PREVIOUS not in aliases or LIVE not in aliases:
                raise Conflict(f"{name} has no previous version to go back to; its aliases are {aliases}")
            aliases[LIVE], aliases[PREVIOUS] = aliases[PREVIOUS], aliases[LIVE]
            self._write_aliases(name, aliases)
            return aliases[LIVE]

    # Adding and removing

    def add_version(self, name: str, build: Callable[[Path], ManifestDraft]) -> int:
        """Let `build` write model.onnx (and what belongs to it) into a new folder; publish it as a version.

        The folder is invisible to readers until it is complete and on disk; then it takes the next free
        number in one step. Whatever goes wrong, a full disk included, nothing of it becomes visible.
        Returns the version. No alias is moved: see `promote`.
        """
        folder = self._folder(name)
        with self._building(folder) as building:
            draft = build(building)
            files = list_files(building)
            if MODEL_FILE not in files:
                raise ValueError(f"the build of {name} wrote no {MODEL_FILE}, only {sorted(files)}")
            for file_name in files:
                sync(building / file_name)
            with model_lock(folder):
                version = self._publish(name, building, draft, files)
        return version

    def remove(self, name: str, version: int) -> None:
        """Delete a version that no alias names; its number is not given again. Raises VersionInUse."""
        self.path(name, version)
        with model_lock(self._folder(name)):
            folder = self.path(name, version)
            used = [alias for alias, number in self._aliases(name).items() if number == version]
            if used:
                raise VersionInUse(
                    f"{name} version {version} is {' and '.join(used)}; move the alias first "
                    "(`sightline models promote` or `sightline models alias`)"
                )
            self._keep_highest(name, max(self._versions(name)))
            # Out of sight in one step, so that no reader meets a half-deleted version.
            hidden = Path(tempfile.mkdtemp(dir=self._folder(name), prefix=REMOVED_PREFIX))
            folder.rename(hidden / str(version))
        shutil.rmtree(hidden)

    # Internals

    def _folder(self, name: str) -> Path:
        return resolve_under(self.root, check_model_name(name))

    def _versions(self, name: str) -> list[int]:
        folder = self._folder(name)
        if not folder.is_dir():
            return []
        # Like Triton: a number that does not begin with zero.
        return sorted(
            int(path.name)
            for path in folder.iterdir()
            if path.name.isascii() and path.name.isdecimal() and path.name[0] != "0" and path.is_dir()
        )

    def _aliases(self, name: str) -> dict[str, int]:
        path = self.aliases_path(name)
        try:
            aliases = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise CorruptVersion(
                f"{path} is not JSON ({error}); promote a version to write it anew"
            ) from error
        if not isinstance(aliases, dict) or not all(type(value) is int for value in aliases.values()):
            raise CorruptVersion(f"{path} does not map aliases to version numbers: {aliases!r}")
        return aliases

    def _write_aliases(self, name: str, aliases: dict[str, int]) -> None:
        write_atomic(self.aliases_path(name), json.dumps(aliases, indent=2, sort_keys=True) + "\n")
        self.write_config(name)

    def write_config(self, name: str) -> None:
        """Write config.pbtxt anew from the aliases and the manifests they lead to."""
        aliases = self._aliases(name)
        live = aliases.get(LIVE) or max(aliases.values(), default=max(self.versions(name)))
        others = sorted(set(aliases.values()) - {live})
        text = model_config(
            self.manifest(name, live),
            [self.manifest(name, version) for version in others],
            available=bool(aliases),
        )
        write_atomic(self._folder(name) / CONFIG_FILE, text)

    @contextlib.contextmanager
    def _building(self, folder: Path) -> Iterator[Path]:
        """Yield a new dot-named folder, locked while this process works on it; gone if not published."""
        with model_lock(folder):  # so that `clean` cannot come between making the folder and locking it
            building = Path(tempfile.mkdtemp(dir=folder, prefix=BUILDING_PREFIX))
            descriptor = os.open(building, os.O_RDONLY | os.O_CLOEXEC)
            try_lock(descriptor)
        try:
            yield building
        finally:
            shutil.rmtree(building, ignore_errors=True)
            os.close(descriptor)

    def _publish(self, name: str, building: Path, draft: ManifestDraft, files: dict[str, FileEntry]) -> int:
        folder = self._folder(name)
        version = max([self._highest(name), *self._versions(name)]) + 1
        while True:
            manifest = complete(draft, name=name, version=version, files=files)
            write_atomic(building / MANIFEST_FILE, manifest.model_dump_json(indent=2) + "\n")
            # Both before the version appears: without a configuration Triton would serve it at once.
            self._keep_highest(name, version)
            if not (folder / CONFIG_FILE).exists():
                write_atomic(folder / CONFIG_FILE, model_config(manifest, available=False))
            building.chmod(0o755)  # mkdtemp made it 0700; other services must read it
            try:
                building.rename(folder / str(version))
            except OSError:
                # The lock makes this impossible between processes of one host; on a network file system
                # without locks the folder itself decides, since a rename never replaces a full one.
                if not (folder / str(version)).exists():
                    raise
                version += 1
                continue
            sync(folder)
            return version

    def _highest(self, name: str) -> int:
        try:
            return int((self._folder(name) / HIGHEST_VERSION_FILE).read_text())
        except FileNotFoundError:
            return 0

    def _keep_highest(self, name: str, version: int) -> None:
        write_atomic(self._folder(name) / HIGHEST_VERSION_FILE, f"{max(version, self._highest(name))}\n")
