"""What a training tells TensorBoard."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ldm_tutorial.training.config import Log


class Board:
    """Numbers and pictures of a run, in a folder that TensorBoard shows
    (``tensorboard --logdir OUT``). Called with a line of the log, it writes that."""

    def __init__(self, out: str | Path):
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(Path(out) / "tensorboard"))

    def __call__(self, line: Log) -> None:
        for name, value in line.items():
            if name != "step":
                self.writer.add_scalar(name, value, int(line["step"]))
        self.writer.flush()

    def picture(self, path: str | Path, step: int) -> None:
        """Show a picture file, by the name of the folder that it lies in."""
        from PIL import Image

        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        self.writer.add_image(Path(path).parent.name, pixels, step, dataformats="HWC")
        self.writer.flush()


def tensorboard(out: str | Path) -> Board:
    """An ``on_log`` for ``train`` that writes to ``out``.

    Raises:
        ValueError: if the package tensorboard is missing.
    """
    if find_spec("tensorboard") is None:
        raise ValueError(
            "TensorBoard is not installed: pip install tensorboard, or read "
            "metrics.jsonl, which holds the same numbers"
        )
    return Board(out)
