"""Batches as the engine draws them."""

import signal
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from shared.data.dataset import DetectionRecord, DetectionSet
from shared.data.torch_dataset import DetectionDataset
from shared.families import get_family
from training.loaders import evaluation_loader, training_loader
from training.tasks.detection import collate_evaluation, collate_training

FAMILY = get_family("person")
CONFIG = FAMILY.config(image_size=64, grid_size=4)


class Pictures(DetectionDataset):
    """Black pictures of 64 px, each with one region to ignore over the upper left cell, from no file."""

    def __init__(self, count: int) -> None:
        region = np.array([[0, 0, 16, 16]], np.float32)
        label, ignore = np.zeros(1, np.int64), np.ones(1, bool)
        records = [DetectionRecord(None, 64, 64, region, label, ignore, number) for number in range(count)]
        super().__init__(DetectionSet(records, ["person"], "memory"), (64, 64))
        self._cache = np.zeros((count, 64, 64, 3), np.uint8)


def loader(count, **arguments):
    given = {"batch_size": 4, "num_workers": 0, "seed": 0, **arguments}
    return training_loader(Pictures(count), partial(collate_training, FAMILY.encode_targets, CONFIG), **given)


@pytest.mark.parametrize(
    ("images", "sizes"), [(11, [4, 4]), (8, [4, 4]), (3, [3]), (1, [1])], ids="{0}".format
)
def test_a_batch_that_is_not_full_is_left_out_unless_it_is_all_there_is(images, sizes):
    assert [len(batch.images) for batch in loader(images)] == sizes


def test_regions_to_ignore_reach_the_targets_of_training_and_evaluation():
    pictures = Pictures(2)
    collate = partial(collate_evaluation, FAMILY.encode_targets, CONFIG, pictures.dataset.records)
    evaluated = evaluation_loader(pictures, collate, batch_size=2, num_workers=0)
    for batch in (*loader(2), *evaluated):
        level = batch.targets.levels[0]
        assert level.uncertain.nonzero().tolist() == [[0, 0, 0], [1, 0, 0]]
        assert batch.targets.box_count == 0


def handler_in_a_worker(config, boxes, labels, size, ignored):
    handler = signal.getsignal(signal.SIGINT)
    return SimpleNamespace(ignores_interrupts=handler == signal.SIG_IGN, config=config, collisions=0)


def test_ctrl_c_does_not_end_loader_processes():
    collate = partial(collate_training, handler_in_a_worker, CONFIG)
    batches = training_loader(Pictures(4), collate, batch_size=4, num_workers=1, seed=0)
    assert [batch.targets.ignores_interrupts for batch in batches] == [True]
    assert torch.utils.data.get_worker_info() is None
    assert signal.getsignal(signal.SIGINT) != signal.SIG_IGN
