"""One step as ONNX: states go in and come out, at any batch, and carrying them does not drift."""

import numpy as np
import onnxruntime as ort
import pytest
import torch

STAGES = range(4)
STATES = [f"{kind}{stage}" for stage in STAGES for kind in "hc"]
STEPS = 10
# States are in −1..1 (h) or a few units (c); boxes are compared in pixels, relative to their size.
STATE_TOLERANCE = 1e-4
PIXEL_TOLERANCE = 1e-3


def flat(states):
    return [tensor for pair in states for tensor in pair]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    from shared.families.events.config import EventsConfig
    from shared.families.events.network import RVT

    torch.manual_seed(0)
    network = RVT(EventsConfig(sensor="custom", height=60, width=90, num_classes=2)).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("gamma"):  # at its first value of 1e-5 attention would hardly be seen
                parameter.fill_(0.5)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    batch = {0: torch.export.Dim("batch", min=1, max=64)}
    torch.onnx.export(
        network,
        (torch.zeros(2, 20, 60, 90), network.zero_states(2)),
        str(path),
        dynamo=True,
        opset_version=20,
        input_names=["histograms", *STATES],
        output_names=["decoded", *(f"next_{name}" for name in STATES)],
        dynamic_shapes={"histograms": batch, "states": tuple((batch, batch) for _ in STAGES)},
        external_data=False,
        verbose=False,
    )
    return network, ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("windows", [1, 3])
def test_carried_state_agrees_over_ten_steps(exported, windows):
    network, session = exported
    generator = torch.Generator().manual_seed(windows)
    states = network.zero_states(windows)
    feed = dict(zip(STATES, (tensor.numpy() for tensor in flat(states)), strict=True))
    for _ in range(STEPS):
        histograms = torch.poisson(torch.full((windows, 20, 60, 90), 0.3), generator=generator)
        with torch.inference_mode():
            decoded, states = network.step(histograms, states)
        answer, *following = session.run(None, {"histograms": histograms.numpy(), **feed})
        feed = dict(zip(STATES, following, strict=True))
        np.testing.assert_allclose(answer, decoded.numpy(), atol=PIXEL_TOLERANCE, rtol=0)
        for ours, theirs in zip(flat(states), following, strict=True):
            np.testing.assert_allclose(theirs, ours.numpy(), atol=STATE_TOLERANCE, rtol=0)
    assert abs(feed["c3"]).max() > 0.01  # something was remembered
