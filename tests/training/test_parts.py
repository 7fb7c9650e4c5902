"""Weight average, learning rate, order of the data and history, each against a formula or torch's own."""

import math

import pytest
import torch
from torch import nn

from shared.config import OptimizerConfig, ScheduleConfig, TrainerConfig
from shared.models.classifier import ClassifierSpec
from shared.models.convnext import convnext_zepto
from training.ema import WeightAverage
from training.engine import build_trainer
from training.history import History
from training.loaders import EpochSampler
from training.optimization import LearningRate, build_optimizer, scaled_lr


def test_the_average_follows_its_formula_with_a_warmed_up_decay():
    network = nn.Linear(1, 1, bias=False)
    values = [0.0, 1.0, 5.0, -2.0]
    with torch.no_grad():
        network.weight.fill_(values[0])
    average = WeightAverage(network, 0.2)
    expected = values[0]
    for n, value in enumerate(values[1:]):
        with torch.no_grad():
            network.weight.fill_(value)
        average.update(network)
        decay = min(0.2, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
        assert average.network.weight.item() == pytest.approx(expected, rel=1e-6)


def test_the_average_treats_statistics_as_weights_and_copies_counters():
    network = nn.BatchNorm1d(2)
    average = WeightAverage(network, 0.5)
    network(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    average.update(network)  # decay 1/10 at the first update
    assert torch.allclose(average.network.running_mean, 0.9 * network.running_mean)  # it began at zero
    assert torch.allclose(average.network.running_var, 0.1 + 0.9 * network.running_var)  # it began at one
    assert average.network.num_batches_tracked == 1
    assert not average.network.training
    assert network.training


def test_the_average_is_restored_with_its_count():
    network = nn.Linear(2, 2)
    average = WeightAverage(network, 0.99)
    for _ in range(3):
        with torch.no_grad():
            network.weight.add_(1)
        average.update(network)
    restored = WeightAverage(nn.Linear(2, 2), 0.99)
    restored.load_state_dict(average.state_dict())
    assert restored.updates == 3
    assert torch.equal(restored.network.weight, average.network.weight)


def rate(steps_per_epoch=10, max_epochs=8, base=1e-2, higher=False, **schedule):
    return LearningRate(
        ScheduleConfig(**schedule), base, steps_per_epoch, max_epochs, higher_is_better=higher
    )


def test_the_warm_up_is_linear_from_its_rate_to_the_full_one():
    lr = rate(name="constant", warmup_epochs=5.0, warmup_lr=1e-6)
    assert lr.at(0) == 1e-6
    assert lr.at(25) == pytest.approx((1e-6 + 1e-2) / 2)
    assert lr.at(50) == lr.at(79) == 1e-2


def test_cosine_falls_from_the_end_of_the_warm_up_to_the_last_step():
    lr = rate(name="cosine", warmup_epochs=2.0)
    assert lr.at(20) == pytest.approx(1e-2)
    assert lr.at(50) == pytest.approx(1e-2 * (1 + math.cos(math.pi / 2)) / 2)
    assert lr.at(80) == pytest.approx(0, abs=1e-12)


def test_one_cycle_is_torchs_of_straight_lines():
    # specs/events.md, section 9: from max / 20, peak at 0.5 % of the steps, down to max / 10000
    steps = 400
    ours = rate(steps_per_epoch=50, max_epochs=8, name="one_cycle")
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    torchs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=1e-2,
        total_steps=steps,
        pct_start=0.005,
        div_factor=20,
        final_div_factor=10000 / 20,
        anneal_strategy="linear",
        cycle_momentum=False,
    )
    for step in range(steps):
        assert ours.at(step) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        if step < steps - 1:
            torchs.step()
    assert (ours.at(0), ours.at(1), ours.at(steps - 1)) == pytest.approx((1e-2 / 20, 1e-2, 1e-6))


@pytest.mark.parametrize("higher", [False, True])
def test_plateau_is_torchs_reduce_lr_on_plateau(higher):
    generator = torch.Generator().manual_seed(1)
    metrics = torch.rand(60, generator=generator).tolist()
    ours = rate(name="plateau", factor=0.5, patience=2, higher=higher)
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1e-2)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max" if higher else "min", factor=0.5, patience=2, eps=0
    )
    for epoch, metric in enumerate(metrics, start=1):
        ours.after_evaluation(metric, epoch)
        torchs.step(metric)
        assert ours.at(10 * epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
    assert ours.at(600) < 1e-2


def test_the_learning_rate_scales_with_the_real_batch(toy_run):
    batch = ["trainer.batch_size=8", "trainer.accumulate_grad_batches=3", "optimizer.lr=1e-4"]
    assert scaled_lr(toy_run(*batch, "optimizer.lr_reference_batch=4")) == pytest.approx(6e-4)
    assert scaled_lr(toy_run(*batch, "optimizer.lr_reference_batch=null")) == pytest.approx(1e-4)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_decay_spares_biases_and_normalisation(name):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = build_optimizer(OptimizerConfig(name=name, weight_decay=0.1), network, 1e-3)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay[id(network[0].weight)] == 0.1
    assert {decay[id(p)] for p in (network[0].bias, network[1].weight, network[1].bias)} == {0.0}


def test_decay_spares_layer_scales_but_no_matrix_of_one_output():
    network = convnext_zepto(ClassifierSpec(classes=1))
    optimizer = build_optimizer(OptimizerConfig(name="adamw", weight_decay=0.1), network, 1e-3)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    names = dict(network.named_parameters())
    assert len(decay) == len(names)
    for name, parameter in names.items():
        spared = name.endswith((".bias", ".layer_scale")) or parameter.ndim == 1
        assert decay[id(parameter)] == (0.0 if spared else 0.1), name


@pytest.mark.parametrize("way", ["norm", "value"])
def test_gradients_are_clipped_as_the_config_says(way, tmp_path):
    config = TrainerConfig(**{f"gradient_clip_{way}": 0.5}, accelerator="cpu")
    trainer = build_trainer(config, [], default_root_dir=str(tmp_path))
    assert (trainer.gradient_clip_val, trainer.gradient_clip_algorithm) == (0.5, way)


class _Images:
    """As much of a data set as a sampler uses."""

    def __init__(self, length):
        self.length, self.epochs = length, []

    def __len__(self):
        return self.length

    def set_epoch(self, epoch):
        self.epochs.append(epoch)


def order(length=11, seed=0, epoch=0, **place):
    sampler = EpochSampler(_Images(length), seed, **place)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_every_epoch_has_its_own_order_and_the_same_each_time():
    assert sorted(order()) == list(range(11))
    assert order(epoch=3) == order(epoch=3)
    assert order(epoch=3) != order(epoch=4) != order(epoch=4, seed=1)


def test_devices_share_the_images_without_overlap_and_in_equal_numbers():
    shares = [order(epoch=2, rank=rank, world_size=2) for rank in (0, 1)]
    assert [len(share) for share in shares] == [5, 5]
    assert not set(shares[0]) & set(shares[1])


def test_the_data_set_is_told_the_epoch():
    images = _Images(4)
    EpochSampler(images, 0).set_epoch(5)
    assert images.epochs == [0, 5]


def row(epoch, ap, val_loss=1.0):
    return {"epoch": epoch, "ap": ap, "val_loss": val_loss}


def test_the_best_epoch_is_the_highest_and_of_equals_the_one_with_less_loss():
    history = History("ap", 3, higher_is_better=True)
    judged = [
        history.add(row(*values)) for values in ((1, 0.0, 9.0), (2, 0.0, 8.0), (3, 0.5, 8.5), (4, 0.4, 1.0))
    ]
    assert judged == [True, True, True, False]
    assert history.best_epoch == 3


def test_patience_counts_evaluations_only_and_survives_a_restart():
    history = History("ap", 2, higher_is_better=True)
    for epoch, ap in enumerate([0.5, 0.4, None], start=1):
        history.add(row(epoch, ap))
    assert not history.out_of_patience
    restored = History("ap", 2, higher_is_better=True)
    restored.load_state_dict(history.state_dict())
    restored.add(row(4, 0.3))
    assert restored.out_of_patience


def test_results_csv_has_every_column_and_row(tmp_path):
    history = History("ap", None, higher_is_better=True)
    history.add({"epoch": 1, "loss": 2.0})
    history.add({"epoch": 2, "loss": 1.0, "ap": 0.5, "val_loss": 3.0})
    history.write_csv(tmp_path / "results.csv")
    assert (tmp_path / "results.csv").read_text() == "epoch,loss,ap,val_loss\n1,2.0,,\n2,1.0,0.5,3.0\n"
