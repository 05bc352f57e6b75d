"""Where images come from: named sets and folders, in one convention."""

from ldm_tutorial.data.config import (
    DataConfig,
    Mirrored,
    batch_of,
    data_config,
    images,
    stream,
    whole,
)
from ldm_tutorial.data.files import ARCHIVES, Found, find_files, find_images
from ldm_tutorial.data.folder import FolderDataset, ImageFiles, load_folder
from ldm_tutorial.data.images import SUFFIXES, Framing, read_image, to_rgb, to_tensor
from ldm_tutorial.data.layout import Layout, understand
from ldm_tutorial.data.look import Fact, Look, look
from ldm_tutorial.data.sets import (
    NAMED,
    NAMES,
    ImageDataset,
    Images,
    load_dataset,
    load_named,
)
from ldm_tutorial.data.splits import SPLITS, by_hash, carve

__all__ = [
    "ARCHIVES",
    "NAMED",
    "NAMES",
    "SPLITS",
    "SUFFIXES",
    "DataConfig",
    "Fact",
    "FolderDataset",
    "Found",
    "Framing",
    "ImageDataset",
    "ImageFiles",
    "Images",
    "Layout",
    "Look",
    "Mirrored",
    "batch_of",
    "by_hash",
    "carve",
    "data_config",
    "find_files",
    "find_images",
    "images",
    "load_dataset",
    "load_folder",
    "load_named",
    "look",
    "read_image",
    "stream",
    "to_rgb",
    "to_tensor",
    "understand",
    "whole",
]
