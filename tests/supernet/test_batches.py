from __future__ import annotations

import numpy as np
import torch

from tinynas.supernet.batches import Batches


def test_a_batch_is_the_chosen_images_with_their_labels() -> None:
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2, 1)
    data = Batches(images, np.arange(6, dtype=np.int32) * 10, torch.device("cpu"))
    x, y = data.take(np.array([4, 1]))
    assert x.dtype == torch.uint8 and x.tolist() == images[[4, 1]].tolist()
    assert y.dtype == torch.int64 and y.tolist() == [40, 10]


def test_images_that_may_not_be_written_are_left_as_they_are() -> None:
    images = np.zeros((3, 2, 2, 1), np.uint8)
    images.setflags(write=False)
    x, _ = Batches(images, np.zeros(3, int), torch.device("cpu")).take(np.array([0]))
    x.add_(1)
    assert not images.any()
