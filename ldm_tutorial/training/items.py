"""A data set of one's own, as a training of images and classes wants it."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset


class Labelled(Dataset):
    """The same data set with items (x, y): images (C, size, size) in [-1, 1] and the
    number of their class, which is 0 where there are no classes.

    Args:
        dataset: map-style; its items are tensors, or tuples that begin with a tensor
            and, where there are classes, its label. The names of the classes may be
            its ``classes``; otherwise they are numbers, as many as the labels show.
        size: side of the images in pixels.

    Raises:
        ValueError: for items that are no such images, and labels that have no class.
    """

    def __init__(self, dataset: Any, size: int):
        if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
            raise TypeError(
                f"the data set is a {type(dataset).__name__}; give one with a length "
                "and items by number (map-style), such as a list of its images"
            )
        if not len(dataset):
            raise ValueError("the data set is empty; give images")
        self.dataset, self.size = dataset, size
        x, label = self._split(dataset[0])
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim != 3:
            shown = f"{x.dtype} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x)
            raise ValueError(
                f"the data set's first item is {shown}; give float images (C, H, W) in "
                "[-1, 1], or tuples (image, label)"
            )
        if tuple(x.shape[1:]) != (size, size):
            raise ValueError(
                f"the data set's images are {x.shape[1]} x {x.shape[2]} pixels and "
                f"size={size} was asked for; give a recipe with their size, and square "
                "images"
            )
        if not bool(x.isfinite().all()) or float(x.abs().max()) > 1.01:
            raise ValueError(
                f"the data set's first image has values from {float(x.min()):g} to "
                f"{float(x.max()):g}; bring them to [-1, 1]"
            )
        self.channels, self.shape = x.shape[0], x.shape
        self.classes = self._names(label is not None)

    @staticmethod
    def _split(item: Any) -> tuple[Any, Any]:
        if not isinstance(item, tuple | list):
            return item, None
        return (item[0], item[1]) if len(item) > 1 else (item[0], None)

    def _names(self, has_labels: bool) -> tuple[str, ...]:
        if not has_labels:
            return ()
        names = getattr(self.dataset, "classes", None)
        if names is not None:
            return tuple(names)
        labels = (self._split(item)[1] for item in self._all())
        most = max(label_of(i, label) for i, label in enumerate(labels))
        return tuple(str(number) for number in range(most + 1))

    def _all(self) -> Any:
        return (self.dataset[i] for i in range(len(self.dataset)))

    def _pair(self, index: int, item: Any) -> tuple[Tensor, int]:
        x, label = self._split(item)
        if getattr(x, "shape", None) != self.shape:
            raise ValueError(
                f"item {index} has shape {tuple(getattr(x, 'shape', ()))}, and item 0 "
                f"has {tuple(self.shape)}; give images of one shape"
            )
        if not self.classes:
            return x.float(), 0
        number = label_of(index, label)
        if number >= len(self.classes):
            raise ValueError(
                f"item {index} has the label {number}, and there are "
                f"{len(self.classes)} classes; give 0 to {len(self.classes) - 1}"
            )
        return x.float(), number

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._pair(index, self.dataset[index])

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Tensor, int]]:
        together = getattr(self.dataset, "__getitems__", None)
        items = together(indices) if together else [self.dataset[i] for i in indices]
        return [self._pair(i, item) for i, item in zip(indices, items, strict=True)]


def label_of(index: int, label: Any) -> int:
    """The label of item ``index`` as a number.

    Raises:
        ValueError: for anything but a whole number from 0 on.
    """
    value = label.tolist() if hasattr(label, "tolist") else label
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if not isinstance(value, int) or value < 0:
        raise ValueError(
            f"item {index} has the label {str(value)[:40]!r}; give whole numbers from "
            "0 on (and their names as the data set's `classes`), or images alone"
        )
    return int(value)
