"""Bad inputs over the command line, configs and files: each gets one line and status 2.

A row costs milliseconds: everything is refused before anything is built. What needs a
trained model stands in ``cli/test_cli.py``.
"""

import itertools
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from ldm_tutorial.cli import start
from ldm_tutorial.cli.main import main
from ldm_tutorial.codec import LatentCodec
from ldm_tutorial.data.images import read_image
from ldm_tutorial.disk import read_json
from ldm_tutorial.storage import check_digest, config_from_dict, save_model
from ldm_tutorial.studies.reproduce import recorded
from ldm_tutorial.studies.study import read_row
from ldm_tutorial.training.checkpoint import read_checkpoint
from ldm_tutorial.training.folder import check_folder, read_log, trained_on
from ldm_tutorial.training.unfinished import recipe_of
from ldm_tutorial.unet import UNetConfig
from ldm_tutorial.vae import VAEConfig

# --- the command line -----------------------------------------------------------------

HUGE = "9" * 30
TRAINING = {
    "--size": ("", "x", "0", "-8", "12", "1.5", HUGE, "None", "[]"),
    "--length": ("0", "-1", "x", "1.5", HUGE),
    "--data": (
        "",
        " ",
        "/nowhere",
        "no\x1b[2Jwhere",
        "/dev/null",
        "a\0b",
        "a" * 300,
        "~no-one/x",
    ),
    "--fit": ("", "stretch"),
    "--background": ("", "blau", "#12", "#xyzxyz"),
    "--channels": ("0", "2", "x", HUGE),
    "--train.steps": ("0", "-1", "x", "1e3.5", "[1]"),
    "--train.batch_size": ("0", "x", HUGE),
    "--train.learning_rate": ("0", "-1", "nan", "inf", "x"),
    "--train.seed": ("-1", "x", HUGE),
    "--train.precision": ("", "fp8"),
    "--train.ema_decay": ("1", "-0.1", "nan", "x"),
    "--train.accumulate": ("0", "-1", "x"),
    "--train.num_workers": ("-1", "x"),
    "--samples_every": ("-1", "x"),
    "--preset": ("", "bogus"),
    "--out": ("", " ", "~no-one/x"),
    "--init": ("", "/nowhere", "/dev/null"),
    "--vae.channels": ("", "x", "[0]", "[-1]", "[100000000]", "[65537]", "{}"),
    "--vae.num_res_blocks": ("0", "-1", "1000000", "x", HUGE),
    "--vae.downsampling": ("0", "3", "-2", "4096", "x"),
    "--vae.latent_channels": ("0", "100000000", "x"),
    "--vae.layout": ("", "bogus"),
    "--vae": ("5", "[1]", "/nowhere"),
    "--bogus": ("1",),
}
OTHERS = [
    *("", "bogus", "--bogus", "train-vae", "export", "reproduce", "reproduce bogus"),
    "reproduce kl_study --scale bogus",
    "reproduce kl_study --arms bogus --scale smoke",
    *("sample --model", "sample --model /nowhere", "sample --model /dev/null"),
    *(f"sample -n {n}" for n in ("0", "-1", "x", "1.5", "100001", HUGE)),
    *(f"sample --seed {n}" for n in ("-1", "x", HUGE)),
    *("sample --out x", "sample --out x.gif", "sample --out /dev/null/x.png"),
    *("sample --sampler bogus", "sample --steps x", "sample --eta x"),
    *(f"evaluate -n {n}" for n in ("1", "0", "x", "100001", HUGE)),
    "evaluate --features bogus",
    "evaluate --model real --steps 3",
    *("evaluate --model vae-f8 --eta 1", "evaluate --model vae-f8 --guidance_scale 2"),
    *(f"benchmark --repeats {n}" for n in ("0", "-1", "x")),
    *(f"benchmark -n {n}" for n in ("0", "x", "100001", HUGE)),
    *(f"benchmark --race {n}" for n in ("-1", "nan", "inf", "5")),
    *("benchmark --spaces bogus", "benchmark --spaces none", "benchmark --size 7"),
    *(f"data --size {n}" for n in ("0", "x", "12", "100000")),
    *(f"data -n {n}" for n in ("0", "x", "100001", "100000")),
    *("data --split all", "data --out x.pdf", "data --data /nowhere", "data --json 1"),
    *("export --out", "export --format bogus --out x", "export --model /nowhere"),
    "train-ldm --vae /nowhere --out new",
    "train-ldm --vae none --out new --unet.attention_levels [5]",
    "train-ldm --vae none --out new --unet.attention_levels [-1]",
    "train-ldm --vae none --out new --unet.num_res_blocks 1000000",
    "train-ldm --vae none --out x --objective.schedule.num_train_timesteps 1000000000",
    "train-ldm --vae none --out new --objective.schedule.name bogus",
    "train-ldm --vae none --out new --objective.label_dropout 2",
    "train-scenenet --out new --flip",
]
ROWS = [command.split() for command in OTHERS]
ROWS += [
    ["train-vae", "--preset", "smoke", "--out", "new", option, value]
    for option, values in TRAINING.items()
    for value in values
]


@pytest.mark.parametrize("arguments", ROWS, ids=lambda row: ascii(" ".join(row))[-60:])
def test_a_bad_command_gets_one_line(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LDM_TUTORIAL_DATA", str(tmp_path))
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    out, err = capsys.readouterr()
    assert (stop.value.code, out) == (2, ""), err
    assert err.startswith("ldm-tutorial: error: ") and err.count("\n") == 1, err
    assert err.removesuffix("\n").isprintable()
    assert list(tmp_path.iterdir()) == []


# --- files ----------------------------------------------------------------------------

DAMAGE = {
    "empty": b"",
    "zeros": b"\0" * 1000,
    "half": b'{"kind": "LatentCod',
    "number": b"5",
    "null": b"null",
    "list": b"[]",
    "text": b'"text"',
    "brackets": b"[" * 100_000,
    "braces": b'{"a":' * 100_000,
    "digits": b'{"a": ' + b"9" * 10_000 + b"}",
    "no utf-8": b'{"kind": "\xff\xfe"}',
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "other object": b'{"kind": 5, "scale": [], "rows": 1}',
}
READERS = {
    "config.json": lambda folder: LatentCodec.load(folder),
    "model.safetensors": lambda folder: LatentCodec.load(folder),
    "recipe.json": lambda folder: recipe_of(folder),
    "metrics.jsonl": lambda folder: read_log(folder / "metrics.jsonl"),
    "row.json": lambda folder: read_row(folder / "row.json"),
    "record.json": lambda folder: recorded(folder / "record.json", {}),
    "checkpoint.pt": lambda folder: read_checkpoint(folder),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    save_model(folder, "LatentCodec", {"vae": {}}, {"mean": torch.zeros(1)})
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_gets_one_line(name, damage, saved, tmp_path):
    for other, content in saved.items():
        (tmp_path / other).write_bytes(content)
    text = DAMAGE[damage] + b"\n" * (name == "metrics.jsonl")
    (tmp_path / name).write_bytes(text)
    with pytest.raises(ValueError) as caught:
        READERS[name](tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", [n for n in READERS if n.endswith("json")])
@pytest.mark.parametrize("kind", ["pipe", "folder", "two gigabytes", "loop"])
def test_what_is_no_file_is_not_read(name, kind, tmp_path):
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path)
    else:
        with path.open("wb") as file:
            file.truncate(2 * 10**9)
    with pytest.raises((ValueError, OSError)) as caught:
        read_json(path)
    assert "\n" not in start.in_words(caught.value)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_folder_with_a_foreign_recipe_is_not_trained_in(damage, tmp_path):
    (tmp_path / "recipe.json").write_bytes(DAMAGE[damage])
    with pytest.raises(ValueError) as caught:
        check_folder(tmp_path, {"kind": "VAERecipe"})
    assert "\n" not in str(caught.value)
    (tmp_path / "checkpoint.pt").write_bytes(b"")
    if damage != "other object":
        with pytest.raises(ValueError, match=r"recipe\.json"):
            trained_on(tmp_path)


@pytest.mark.parametrize(
    "head", [b"", b"\0" * 8, b"\xff" * 8, b"\x02" + bytes(7) + b"[]"]
)
def test_weights_without_a_head_get_one_line(head, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(head)
    with pytest.raises(ValueError, match="is damaged") as caught:
        check_digest(path, {})
    assert "\n" not in str(caught.value)


# --- configs --------------------------------------------------------------------------

NUMBERS = {
    VAEConfig: ("in_channels", "latent_channels", "channels", "num_res_blocks"),
    UNetConfig: ("in_channels", "channels", "num_res_blocks", "patch_size"),
}
FIELDS = [(cls, name) for cls, names in NUMBERS.items() for name in names]
WRONG = (0, -1, 10**9, 1e300)


@pytest.mark.parametrize(
    ("field", "value"),
    list(itertools.product(FIELDS, WRONG)),
    ids=lambda v: str(v)[-30:],
)
def test_an_absurd_number_in_a_config_is_refused(field, value):
    cls, name = field
    values = {name: [value] if name == "channels" else value}
    with pytest.raises(ValueError, match=name):
        config_from_dict(cls, values)


@pytest.mark.parametrize("name", ["", "depth", "kind", "channels ", "__class__"])
@pytest.mark.parametrize("cls", NUMBERS)
def test_an_unknown_field_of_a_config_is_refused(cls, name):
    with pytest.raises(ValueError, match="has no field"):
        config_from_dict(cls, {name: 1})


# --- images ---------------------------------------------------------------------------


def cut(content: bytes) -> dict[str, bytes]:
    """What may happen to a file."""
    return {
        "empty": b"",
        "head": content[:20],
        "half": content[: len(content) // 2],
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "web page": b"<!doctype html><title>404</title>",
        "archive": b"PK\x03\x04" + bytes(60),
        "zeros": bytes(500),
    }


@pytest.mark.parametrize("damage", cut(b""))
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".webp", ".bmp", ".tiff"])
def test_a_broken_picture_gets_one_line(suffix, damage, tmp_path):
    path = tmp_path / f"a{suffix}"
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(cut(path.read_bytes())[damage])
    with pytest.raises(ValueError) as caught:
        read_image(path)
    assert "cannot read image" in str(caught.value) and "\n" not in str(caught.value)


def test_there_are_many_rows():
    files = len(READERS) * len(DAMAGE) + len(DAMAGE) + 4 * 4 + 4
    configs = len(FIELDS) * len(WRONG) + 5 * len(NUMBERS)
    assert len(ROWS) + files + configs + 7 * 6 >= 300
    assert json.dumps(ROWS)
