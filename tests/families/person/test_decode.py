"""Decoding by hand, and as part of an exported graph."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from shared.families import get_family
from shared.families.person.config import PersonConfig

PERSON = get_family("person")


def test_a_cell_decodes_to_the_specified_box():
    config = PersonConfig(grid_size=13)
    grid = torch.zeros(1, 13, 13, 5)
    grid[0, 4, 7] = torch.tensor([0.25, 0.5, 0.1, 0.4, 0.9])
    boxes, scores, labels = PERSON.decode(config, grid)
    # cx = (7 + 0.25)/13 · 416 = 232, cy = (4 + 0.5)/13 · 416 = 144; 41.6 × 166.4 pixels
    assert boxes[0, 0].tolist() == pytest.approx([232 - 20.8, 144 - 83.2, 232 + 20.8, 144 + 83.2], abs=1e-3)
    assert scores[0, 0].item() == pytest.approx(0.9)
    assert boxes.shape == (1, 169, 4)
    assert (labels.dtype, labels.shape) == (torch.int64, (1, 169))


def test_candidates_come_best_first_and_at_most_top_k():
    config = PersonConfig(top_k=7)
    grid = torch.rand(3, 26, 26, 5)
    _, scores, _ = PERSON.decode(config, grid)
    assert scores.shape == (3, 7)
    expected = np.sort(grid[..., 4].reshape(3, -1).numpy(), axis=1)[:, ::-1][:, :7]
    np.testing.assert_array_equal(scores.numpy(), expected)


def test_every_levels_cells_compete():
    config = PersonConfig(image_size=64, multi_scale=True)
    grids = tuple(torch.full((1, size, size, 5), 0.5) for size in (8, 4, 2))
    for grid, score in zip(grids, (0.7, 0.9, 0.8), strict=True):
        grid[0, 1, 0, 4] = score
    boxes, scores, _ = PERSON.decode(config, grids)
    assert boxes.shape[1] == 64 + 16 + 4
    assert scores[0, :3].tolist() == pytest.approx([0.9, 0.8, 0.7])
    centres = (boxes[0, :3, :2] + boxes[0, :3, 2:]) / 2
    assert centres.flatten().tolist() == pytest.approx([8, 24, 16, 48, 4, 12])


class Exported(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.network = PERSON.build(config)

    def forward(self, images):
        return PERSON.decode(self.config, self.network(images))


@pytest.mark.parametrize(
    "options",
    [{"grid_size": 8}, {"image_size": 96, "multi_scale": True, "skips": True}],
    ids=["resampled", "multi-scale"],
)
def test_network_and_decode_export_to_onnx_with_a_dynamic_batch(options, tmp_path):
    torch.manual_seed(0)
    config = PersonConfig(**{"image_size": 64, "depth": "light", "top_k": 20, **options})
    module = Exported(config).eval()
    size = config.image_size
    path = tmp_path / "model.onnx"
    torch.onnx.export(
        module,
        (torch.rand(2, 3, size, size),),
        str(path),
        dynamo=True,
        input_names=["images"],
        output_names=["boxes", "scores", "labels"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch in (1, 3):
        images = torch.rand(batch, 3, size, size)
        with torch.no_grad():
            expected = module(images)
        boxes, scores, labels = session.run(None, {"images": images.numpy()})
        assert boxes.shape == (batch, 20, 4)
        np.testing.assert_allclose(boxes, expected[0].numpy(), atol=1e-3)
        np.testing.assert_allclose(scores, expected[1].numpy(), atol=1e-5)
        np.testing.assert_array_equal(labels, expected[2].numpy())
