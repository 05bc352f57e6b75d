"""The diagrams say what the models are, in words as well, and stay in their frames."""

import re
from xml.etree import ElementTree

import pytest
import torch

from ldm_tutorial.teach import diagrams
from ldm_tutorial.teach.svg import SIZE, WIDTH
from ldm_tutorial.unet import UNet, UNetConfig
from ldm_tutorial.vae import AutoencoderKL
from ldm_tutorial.vae_config import VAEConfig

DRAWN = {
    "pipeline": diagrams.pipeline(),
    **{f"pipeline {n}": diagrams.pipeline(n) for n in diagrams.HERE},
    "autoencoder": diagrams.autoencoder(),
    "unet": diagrams.unet(),
    "unet of four levels": diagrams.unet(UNetConfig(channels=(32, 64, 96, 128)), 64),
    "chain": diagrams.chain(),
    "gradients": diagrams.gradients(),
    "scale": diagrams.scale(),
}
every = pytest.mark.parametrize("drawn", DRAWN.values(), ids=DRAWN)


def tree(drawn):
    return ElementTree.fromstring(
        drawn.svg().replace(' xmlns="http://www.w3.org/2000/svg"', "")
    )


@every
def test_it_has_a_text_and_takes_the_colour_of_the_page(drawn):
    root = tree(drawn)
    assert root.get("role") == "img" and len(root.get("aria-label")) > 60
    inks = {e.get("fill") for e in root.iter("text")} | {e.get("stroke") for e in root}
    assert "currentColor" in inks and not inks & {"black", "white", "#000", "#fff"}


@every
def test_nothing_leaves_the_frame_and_words_fit_their_boxes(drawn):
    root, boxes = tree(drawn), []
    for e in root.iter("rect"):
        x, y, w, h = (float(e.get(k)) for k in ("x", "y", "width", "height"))
        assert x >= 0 and x + w <= WIDTH and y >= 0 and y + h <= drawn.height
        boxes.append((x, y, w, h))
    for e in root.iter("text"):
        x, y = float(e.get("x")), float(e.get("y"))
        # A letter is about 0.56 of the size of the type wide, a bold one 0.6.
        wide = (
            len(e.text)
            * float(e.get("font-size"))
            * (0.6 if e.get("font-weight") else 0.53)
        )
        left = x - wide * {"start": 0, "middle": 0.5, "end": 1}[e.get("text-anchor")]
        assert left >= -2 and left + wide <= WIDTH + 2, e.text
        assert SIZE / 2 <= y <= drawn.height - SIZE / 2, e.text
        inside = [
            b for b in boxes if b[0] <= x <= b[0] + b[2] and b[1] <= y <= b[1] + b[3]
        ]
        assert not inside or wide <= inside[0][2] + 4, e.text


def said(drawn):
    return re.findall(r"\d+×\d+×\d+", drawn.description)


def test_the_autoencoder_is_drawn_with_the_shapes_that_it_has():
    config, seen = VAEConfig(), []
    vae = AutoencoderKL(config)
    for half in (vae.encoder, vae.decoder):
        for m in half.modules():
            if type(m).__name__ == "ResBlock":
                m.register_forward_hook(
                    lambda m, i, o: seen.append("×".join(map(str, o.shape[1:])))
                )
    with torch.no_grad():
        z = vae.encode(torch.zeros(1, 3, 64, 64)).mu
        vae.decode(z)
    shown = said(diagrams.autoencoder(config))
    assert shown[0] == shown[-1] == "3×64×64"
    assert "×".join(map(str, z.shape[1:])) in shown
    assert set(seen) <= set(shown) and set(shown[1:-1]) - {"4×8×8"} <= set(seen)


def test_the_unet_is_drawn_with_the_shapes_that_it_has():
    config, seen = UNetConfig(channels=(32, 64), num_res_blocks=1, num_classes=3), []
    net = UNet(config)
    for layers in net.down:
        if type(layers[0]).__name__ == "ResBlock":
            layers[0].register_forward_hook(
                lambda m, i, o: seen.append("×".join(map(str, o.shape[1:])))
            )
    with torch.no_grad():
        net(torch.zeros(1, 4, 8, 8), torch.zeros(1, dtype=torch.int64))
    assert said(diagrams.unet(config))[: len(seen)] == seen


def test_a_chapter_that_is_none():
    with pytest.raises(ValueError, match="chapter 9 is not on the map; choose from"):
        diagrams.pipeline(9)
