"""From a traced graph to one ONNX file."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
import torch

from services.export.graph import RAW_PREFIX, ExportedGraph

OPSET = 20


def export_onnx(graph: ExportedGraph, path: Path) -> list[str]:
    """Write `graph` for any batch; return the raw outputs' names.

    The file is self-contained (no external data) and names no path of this machine. Raises onnx's
    ValidationError if it breaks the standard.
    """
    examples = graph.examples(batch=2)  # a batch of 1 would be taken as fixed
    with torch.no_grad():
        raw_names = [f"{RAW_PREFIX}{level}" for level in range(len(graph(*examples)) - len(graph.outputs))]
    with _quiet():
        program = torch.onnx.export(
            graph,
            examples,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=[*graph.outputs, *raw_names],
            dynamic_shapes=graph.dynamic_shapes(torch.export.Dim("batch", min=1, max=4096)),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _forget_the_source(model)
    onnx.save_model(model, path)
    onnx.checker.check_model(path, full_check=True)
    return raw_names


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence notes of PyTorch about itself: torchvision is rightly absent, and a deprecation is its own."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            # Several inputs share the one free dimension; PyTorch says that it names it once.
            warnings.filterwarnings("ignore", "# The axis name: ", UserWarning)
            yield
    finally:
        logger.setLevel(level)


def _forget_the_source(model: onnx.ModelProto) -> None:
    """Remove stack traces and module names: they hold paths of this machine and make equal runs differ."""
    for container in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.functions):
        container.doc_string = ""
        del container.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]
