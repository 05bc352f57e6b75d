"""Data sets and losses of one's own: right, or refused in one line."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset

from ldm_tutorial.training import TrainConfig, train
from ldm_tutorial.training.items import Labelled

x = torch.zeros(3, 8, 8)


class Endless(IterableDataset):
    def __iter__(self):
        yield x


@pytest.mark.parametrize(
    "dataset, labels",
    [
        ([x, x], [0, 0]),
        ([(x, 0), (x, 2)], [0, 2]),
        ([[x, torch.tensor(1)], [x, np.int64(0)]], [1, 0]),
        ([(x, 1, "a caption"), (x, torch.tensor([0]), "another")], [1, 0]),
        (TensorDataset(torch.zeros(2, 3, 8, 8)), [0, 0]),
        (torch.zeros(2, 3, 8, 8, dtype=torch.float64), [0, 0]),
    ],
)
def test_items_become_an_image_and_a_number(dataset, labels):
    items = Labelled(dataset, 8)
    images, found = zip(*(items[i] for i in range(2)), strict=True)
    assert list(found) == labels
    assert all(torch.equal(image, x) and image.dtype == x.dtype for image in images)
    most = max(labels)
    assert items.classes == (tuple(map(str, range(most + 1))) if most else ())


@pytest.mark.parametrize(
    "dataset, complaint",
    [
        (Endless(), "a Endless; give one with a length and items by number"),
        (iter([x]), "a list_iterator; give one with a length"),
        ([], "is empty"),
        ([(x, 0), (x, "cat")], "item 1 has the label 'cat'; give whole numbers"),
        ([(x, 0), (x, -1)], "item 1 has the label '-1'"),
        ([(x, 0), (x, 0.5)], "item 1 has the label '0.5'"),
        ([(x, 0), (x, None)], "item 1 has the label 'None'"),
        ([(x, torch.eye(3)[0])], "item 0 has the label '\\[1.0, 0.0, 0.0\\]'"),
        ([x, x[:, :4]], r"item 1 has shape \(3, 4, 8\), and item 0 has \(3, 8, 8\)"),
        ([x, "x"], r"item 1 has shape \(\)"),
        ([x.byte()], "torch.uint8"),
        ([{"image": x}], "dict"),
    ],
)
def test_items_that_are_no_images_with_numbers(dataset, complaint):
    with pytest.raises((TypeError, ValueError), match=complaint) as refused:
        items = Labelled(dataset, 8)
        [items[i] for i in range(len(items))]
    assert "\n" not in str(refused.value)


class Fit(nn.Module):
    """What the loop trains: a number that shall fit the data, with an answer to it."""

    def __init__(self, answer):
        super().__init__()
        self.weight, self.answer = nn.Parameter(torch.zeros(())), answer

    def forward(self, x, generator=None):
        return self.answer((self.weight - x).square())


def trained(answer, **options):
    config = TrainConfig(steps=2, batch_size=4, log_every=1, **options)
    return train(Fit(answer), [torch.ones(2)] * 4, config)


def test_plain_numbers_and_tensors_are_logged():
    line, _ = trained(lambda e: (e.mean(), {"a": 1, "b": 2.5, "c": e.max(), "d": True}))
    assert [line[name] for name in "abcd"] == [1, 2.5, 1, 1]


def test_what_only_some_parts_of_a_batch_report_is_the_mean_over_those():
    seen = iter([{"a": 1.0}, {"a": 3.0, "b": 5.0}, {}, {"b": 7.0}])
    first, second = trained(lambda e: (e.mean(), next(seen)), accumulate=2)
    assert (first["a"], first["b"]) == (2, 5)
    assert "a" not in second and second["b"] == 7


@pytest.mark.parametrize(
    "answer, complaint",
    [
        (lambda e: e.mean(), r"returned a Tensor; let it return \(loss, \{name"),
        (lambda e: (e.mean(),), "returned a tuple; let it return"),
        (lambda e: (e.mean(), None), "returned a tuple; let it return"),
        (lambda e: None, "returned a NoneType"),
        (lambda e: (e, {}), r"the loss has shape \(4, 2\); return one number"),
        (lambda e: (e.mean(), {"a": e}), r"a has shape \(4, 2\); return one number"),
        (lambda e: (e.mean(), {"step": 1}), "logs step, which the loop writes itself"),
    ],
)
def test_an_answer_that_is_no_loss_is_refused(answer, complaint):
    with pytest.raises((TypeError, ValueError), match=complaint) as refused:
        trained(answer)
    assert "\n" not in str(refused.value)
