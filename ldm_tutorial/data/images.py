"""One image file, whatever its format, depth and shape, as a square of 8-bit pixels.

Only raster formats are opened: PostScript and metafiles are programs for an
interpreter, and stay closed whatever their names say. Depths whose range is known are
scaled to 8 bits, others are refused. What a camera turned is turned upright, what is
transparent is laid on a stated colour, and shrinking takes the mean of what it hides.
"""

import os
import stat
import threading
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from ldm_tutorial.arguments import whole

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

RASTER = (
    *("AVIF", "BLP", "BMP", "CUR", "DCX", "DDS", "DIB", "FITS", "FLI", "FTEX", "GBR"),
    *("GIF", "ICNS", "ICO", "IM", "JPEG", "JPEG2000", "MCIDAS", "MPO", "MSP", "PCD"),
    *("PCX", "PIXAR", "PNG", "PPM", "PSD", "QOI", "SGI", "SPIDER", "SUN", "TGA"),
    *("TIFF", "WEBP", "XBM", "XPM", "XVTHUMB"),
)
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff")
LARGEST = 2**26 + 2**24  # pixels of an image: 84 million, decoded in 0.7 GB
LARGE = 2**24  # pixels above which images are decoded one at a time
ORIENTATION = 0x0112  # tag of EXIF

Fit = Literal["crop", "pad"]
one_large_image = threading.Lock()


@dataclass(frozen=True)
class Framing:
    """How any image becomes a square.

    Attributes:
        size: its side in pixels.
        fit: crop takes the largest central square, pad keeps all and fills the rest.
        background: colour under what is transparent and around what is padded, by name
            or as #rrggbb.
        channels: 3 for colour, 1 for grey.
    """

    size: int
    fit: Fit = "crop"
    background: str = "white"
    channels: int = 3

    def __post_init__(self):
        for name in ("size", "channels"):
            object.__setattr__(self, name, whole(name, getattr(self, name)))
        if self.fit not in ("crop", "pad"):
            raise ValueError(f"fit={self.fit!r} is unknown; choose crop or pad")
        if self.channels not in (1, 3):
            raise ValueError(f"channels={self.channels!r}; give 3 (colour) or 1 (grey)")
        colour(self.background)


def colour(name: str) -> tuple[int, ...]:
    """(red, green, blue) of a colour by name or as #rrggbb."""
    from PIL import ImageColor

    try:
        found: tuple[int, ...] = ImageColor.getrgb(name)
    except (ValueError, AttributeError, TypeError):
        found = ()
    if len(found) != 3 or max(found) > 255:  # four have a transparency
        raise ValueError(
            f"background={name!r} is no colour; give a name such as white, or #rrggbb"
        )
    return found


@cache
def raster_suffixes() -> frozenset[str]:
    """Endings of the names of all raster formats that Pillow reads, with the dot."""
    from PIL import Image

    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, name in known if name in RASTER) | {*SUFFIXES}


def read_image(
    path: str | os.PathLike, size: int | None = None, background: str = "white"
) -> "Image":
    """Any image file as upright 8-bit RGB; an animation gives its first frame.

    Args:
        size: what it will be shrunk to: a JPEG that is more than twice as large is
            decoded at a half, a quarter or an eighth, which saves time and memory.
        background: colour under what is transparent.

    Raises:
        FileNotFoundError: if it is not there.
        ValueError: if it cannot be read, in one line that says why.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"no image file {path}: was it moved or deleted?")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # decoders warn of what they mended
            return decode(path, size, background)[0]
    except Exception as error:  # broken files make decoders fail in many ways
        raise ValueError(
            f"cannot read image {path}: {reason(error, path)}; "
            "replace or remove the file"
        ) from error


def decode(
    path: str | os.PathLike, size: int | None = None, background: str = "white"
) -> tuple["Image", dict]:
    """``read_image`` without its words, and what the file said of itself: format, mode,
    width, height and whether anything in it may be transparent."""
    from PIL import Image

    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError("it is no regular file")
    with Image.open(path, formats=[f for f in RASTER if f in known_formats()]) as image:
        facts: dict[str, Any] = {"format": image.format, "mode": image.mode}
        facts |= dict(zip(("width", "height"), image.size, strict=True))
        if size is not None and image.format in ("JPEG", "MPO"):
            image.draft(None, (2 * size, 2 * size))
        pixels = image.width * image.height
        if pixels > LARGEST:
            raise ValueError(
                f"it has {pixels // 10**6} million pixels, and at most "
                f"{LARGEST // 10**6} fit into memory"
            )
        with one_large_image if pixels > LARGE else nullcontext():
            facts["transparent"] = image.has_transparency_data
            return to_rgb(image, background), facts


@cache
def known_formats() -> frozenset[str]:
    """The formats that this Pillow reads."""
    from PIL import Image

    Image.init()
    return frozenset(Image.OPEN)


def reason(error: Exception, path: str | os.PathLike) -> str:
    """Why a file could not be read, in a few words."""
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        with open(path, "rb") as file:
            start = file.read(64).lstrip()
        if not start:
            return "it is empty"
        kinds = {b"%!PS": "PostScript", b"%PDF": "PDF", b"<": "text, as of a web page"}
        for mark, kind in kinds.items():
            if start.startswith(mark):
                return f"it is {kind}, no raster image"
        return "it is no image of a known raster format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split()) or type(error).__name__


# --- pixels ---------------------------------------------------------------------------


def to_rgb(image: "Image", background: str = "white") -> "Image":
    """A PIL image of any mode as upright RGB, laid on a colour where transparent."""
    from PIL import Image

    image = eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
        ground = Image.new("RGB", image.size, colour(background))
        ground.paste(image, mask=image.getchannel("A"))
        return upright(ground, orientation(image))
    turned = orientation(image)
    return upright(image.convert("RGB"), turned)


def eight_bits(image: "Image") -> "Image":
    """Grey levels of more than 8 bits scaled to them; other images as they are.

    Raises:
        ValueError: where the range of the pixels is not known.
    """
    from PIL import Image

    if getattr(image, "tile", None):  # a file that is not decoded yet
        state_in_eight_bits(cast("ImageFile", image))
    image.load()
    tags = getattr(image, "tag_v2", {})  # of a TIFF file
    if image.mode == "F" or 3 in as_tuple(tags.get(339)):
        raise ValueError("its pixels are floats of unknown range; save it as 8-bit")
    bits = as_tuple(tags.get(258))[:1] or (16,)
    if 2 in as_tuple(tags.get(339)) and bits[0] < 32:
        raise ValueError("its pixels are signed integers; save it as 8-bit")
    if not image.mode.startswith("I"):
        return image
    transparent = image.info.get("transparency")
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if image.format in ("FITS", "MCIDAS", "IM", "SPIDER") or low < 0 or high > 65535:
        raise ValueError(
            f"its pixels are integers from {low} to {high}, of unknown range; save it "
            "as 8-bit"
        )
    if image.mode == "I" and image.format == "TIFF" and 0 < high < 256:
        raise ValueError(
            f"its 32-bit pixels reach only to {high}, of unknown range; save it as "
            "8-bit"
        )
    full = 2 ** min(bits[0], 16) - 1
    scale = np.round(np.arange(full + 1) * (255 / full)).astype(np.uint8)
    if tags.get(262) == 0:  # white is zero
        scale = scale[::-1]
    grey = Image.fromarray(scale[values.clip(0, full)])
    if isinstance(transparent, int):  # one level of grey stands for nothing there
        grey.putalpha(Image.fromarray(np.uint8(255) * (values != transparent)))
    grey.info["turned"] = orientation(image)
    return grey


def state_in_eight_bits(image: "ImageFile") -> None:
    """Bring the colour that stands for nothing to the 8 bits of the pixels: a PNG of
    another depth states it in its own."""
    stated, kind = image.info.get("transparency"), [tile[3] for tile in image.tile]
    if kind == ["RGB;16B"] and isinstance(stated, tuple):
        image.info["transparency"] = tuple(part >> 8 for part in stated)
    factor = {"L;2": 85, "L;4": 17}.get(str(*kind)) if len(kind) == 1 else None
    if factor and isinstance(stated, int):
        image.info["transparency"] = stated * factor


def as_tuple(value: object) -> tuple:
    return value if isinstance(value, tuple) else () if value is None else (value,)


def orientation(image: "Image") -> int:
    """How EXIF says that an image lies, 1 to 8; 1 where it says nothing sensible."""
    if "turned" in image.info:
        return image.info["turned"]
    try:
        found = image.getexif().get(ORIENTATION, 1)
    except Exception:  # broken blocks make the reader fail in many ways
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def upright(image: "Image", turned: int) -> "Image":
    """Turn and mirror as an orientation of EXIF asks; nothing else is kept of it."""
    from PIL.Image import Transpose

    ways = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    image = image.transpose(ways[turned]) if turned in ways else image.copy()
    image.info = {}
    return image


def to_square(image: "Image", framing: Framing) -> np.ndarray:
    """Upright pixels (channels, size, size), uint8."""
    from PIL import Image, ImageOps

    image, size = to_rgb(image, framing.background), framing.size
    how = Image.Resampling.BICUBIC
    if framing.fit == "crop":
        square = ImageOps.fit(image, (size, size), how)
    else:
        side = max(image.size)
        shape = [max(1, round(length * size / side)) for length in image.size]
        square = Image.new("RGB", (size, size), colour(framing.background))
        left, top = ((size - length) // 2 for length in shape)
        square.paste(image.resize(shape, how), (left, top))
    if framing.channels == 1:
        return np.array(square.convert("L"))[None]
    return np.array(square).transpose(2, 0, 1)


def to_tensor(
    image: "Image",
    size: int,
    fit: Fit = "crop",
    background: str = "white",
    channels: int = 3,
) -> Tensor:
    """A square of a PIL image, (channels, size, size) float32 in [-1, 1]; arguments as
    the attributes of ``Framing``."""
    return scaled(to_square(image, Framing(size, fit, background, channels)))


def scaled(pixels: np.ndarray) -> Tensor:
    """uint8 pixels as float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).float() / 127.5 - 1
