"""The model repository: versions of exported models in Triton's layout, their manifests and aliases."""

from shared.repository.manifest import Manifest, ManifestDraft
from shared.repository.repository import ModelRepository

__all__ = ["Manifest", "ManifestDraft", "ModelRepository"]
