"""Published RVT checkpoints as runs, which can be exported and trained on (specs/events.md section 11)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from shared.config import RunConfig, dump_run_config, validate_run
from shared.core.files import atomic_directory, sha256_file
from shared.data.events.classes import CLASS_LISTS
from shared.families.events.checkpoint import load_rvt_state, official_tensors
from shared.families.events.config import SENSORS, SIZES, EventsConfig
from shared.families.events.network import RVT
from shared.models.weights import LoadReport, WeightsError, read_tensors

RECIPE = "imported"  # what the run's config names in place of the recipe it was trained by
_STEM = "backbone.stages.0.downsample_cf2cl.conv.weight"
_CLASSES = "yolox_head.cls_preds.0.weight"


@dataclass(frozen=True)
class Imported:
    """A checkpoint in the network it fits. `config` is the network's, `report` says what went where."""

    path: Path
    config: EventsConfig
    network: nn.Module
    report: LoadReport

    def run_config(self, data: str) -> RunConfig:
        """Return the description of a run with this network, on the data at `data`. Raises ConfigError."""
        return validate_run(
            {
                "family": "events",
                "recipe": RECIPE,
                "model": self.config.model_dump(mode="json"),
                "data": {"path": data},
            }
        )

    def summary(self) -> dict[str, Any]:
        """Return what was read, from where, in JSON's types."""
        height, width = self.config.sensor_size
        return {
            "source": self.path.name,
            "sha256": sha256_file(self.path),
            "size": self.config.size,
            "sensor": self.config.sensor,
            "histograms": {"height": height, "width": width, "halved": self.config.halved},
            "classes": list(self.config.classes),
            "parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "loaded": len(self.report.loaded),
            "untrained": dict(self.report.missing),
            "not_used": dict(self.report.ignored),
        }


def read_published(
    path: Path,
    *,
    size: str | None = None,
    sensor: str | None = None,
    class_names: tuple[str, ...] | None = None,
) -> Imported:
    """Load a checkpoint into the network that its tensors, or these options, describe.

    Without `size` it is the one whose first stage is as wide as the file's; without `sensor` the one that has
    as many classes: gen1 with 2, gen4 with 3, etram with 8. Nothing in the file is run.

    Raises FileNotFoundError; WeightsError for what is no RVT checkpoint or, with the first tensor that does
    not fit, one of another size; ValueError for classes that are not as many as the file's.
    """
    tensors = read_tensors(path)
    given, _ = official_tensors(tensors)
    stem, head = _tensor(path, given, _STEM, 4), _tensor(path, given, _CLASSES, 4)
    classes = head.shape[0]
    sensor = sensor or _sensor_of(path, classes)
    config = EventsConfig.model_validate(
        {
            "size": size or _size_of(path, stem.shape[0]),
            "sensor": sensor,
            "class_names": list(class_names or _names_of(path, sensor, classes)),
        }
    )
    if len(config.classes) != classes:
        raise ValueError(
            f"{path} tells {classes} classes apart, and {len(config.classes)} are named: "
            f"{', '.join(config.classes)}; name as many with --classes, in the order of their ids"
        )
    network = RVT(config)
    return Imported(path, config, network, load_rvt_state(network, tensors, source=str(path)))


def write_run(folder: Path, imported: Imported, data: str) -> None:
    """Write the run folder: weights.safetensors, config.yaml, labels.json and import.json, all or nothing.

    data: where preprocessed recordings lie, for the export gate and for training. Raises FileExistsError,
    OSError, and ConfigError for an unusable `data`.
    """
    text = dump_run_config(imported.run_config(data))
    weights = {name: tensor.contiguous() for name, tensor in imported.network.state_dict().items()}
    with atomic_directory(folder) as unfinished:
        file = unfinished / "weights.safetensors"
        try:
            save_file(weights, file, metadata={"format": "pt"})
        except SafetensorError as error:  # a full disk among others
            raise OSError(str(error)) from error
        file.chmod(0o644)  # safetensors made it 0600; other services must read it
        (unfinished / "config.yaml").write_text(text)
        (unfinished / "labels.json").write_bytes(_json(list(imported.config.classes)))
        (unfinished / "import.json").write_bytes(_json(imported.summary()))


def _json(document: Any) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _tensor(path: Path, tensors: dict[str, Tensor], name: str, dimensions: int) -> Tensor:
    tensor = tensors.get(name)
    if tensor is None or tensor.ndim != dimensions:
        raise WeightsError(f"{path} is no RVT checkpoint: it has no tensor {name} of {dimensions} dimensions")
    return tensor


def _size_of(path: Path, channels: int) -> str:
    for name, size in SIZES.items():
        if size.embed_dim == channels:
            return name
    known = ", ".join(f"{name} has {size.embed_dim}" for name, size in SIZES.items())
    raise WeightsError(f"{path} fits another network: its first stage has {channels} channels; {known}")


def _sensor_of(path: Path, classes: int) -> str:
    counts = {name: len(CLASS_LISTS[sensor.classes].names) for name, sensor in SENSORS.items()}
    for name, count in counts.items():
        if count == classes:
            return name
    known = ", ".join(f"{name} has {count}" for name, count in counts.items())
    raise ValueError(
        f"{path} tells {classes} classes apart, which no known sensor's data do ({known}); "
        "give --sensor and --classes"
    )


def _names_of(path: Path, sensor: str, classes: int) -> tuple[str, ...]:
    names = CLASS_LISTS[SENSORS[sensor].classes].names
    if len(names) != classes:
        raise ValueError(
            f"{path} tells {classes} classes apart, and {sensor} has {len(names)}; "
            "name them with --classes, in the order of their ids"
        )
    return names
