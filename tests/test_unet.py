from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial.unet import UNet, UNetConfig, inherit


def awake(**kwargs):
    """A small UNet whose zero-initialised layers have left zero."""
    torch.manual_seed(0)
    config = UNetConfig(**{"channels": (32, 64), "num_res_blocks": 1} | kwargs)
    unet = UNet(config)
    for parameter in unet.parameters():
        if not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.05)
    return unet


@pytest.mark.parametrize("C, side", [(4, 16), (4, 8), (8, 4), (3, 8)])
def test_the_prediction_has_the_shape_of_its_input(C, side):
    z = torch.randn(2, C, side, side)
    assert awake(in_channels=C)(z, torch.tensor([0, 999])).shape == z.shape


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_patches_fold_and_unfold(patch):
    unet = awake(in_channels=3, patch_size=patch)
    x = torch.randn(1, 3, 32, 16)
    assert unet(x, torch.tensor([3])).shape == x.shape


def test_a_new_unet_predicts_zero():
    z = torch.randn(1, 4, 8, 8)
    prediction = UNet(UNetConfig(channels=(32,)))(z, torch.tensor([5]))
    assert_close(prediction, torch.zeros_like(z))


def test_time_and_class_change_the_prediction():
    unet, z = awake(num_classes=3), torch.randn(1, 4, 8, 8)
    t, y = torch.tensor([10]), torch.tensor([1])
    base = unet(z, t, y)
    assert not torch.allclose(base, unet(z, t + 500, y))
    assert not torch.allclose(base, unet(z, t, y + 1))
    assert_close(unet(z, t), unet(z, t, torch.tensor([3])))  # no class = index 3


def test_elements_of_a_batch_do_not_see_each_other():
    unet, z = awake(num_classes=2), torch.randn(3, 4, 8, 8)
    t, y = torch.tensor([1, 500, 999]), torch.tensor([0, 1, 2])
    alone = torch.cat(
        [unet(z[i : i + 1], t[i : i + 1], y[i : i + 1]) for i in range(3)]
    )
    assert_close(unet(z, t, y), alone, atol=1e-5, rtol=1e-4)


def test_every_parameter_gets_a_gradient():
    unet = awake(num_classes=2)
    y = torch.tensor([0, 1, 2])
    unet(torch.randn(3, 4, 8, 8), torch.tensor([1, 500, 999]), y).sum().backward()
    assert all(bool((p.grad != 0).any()) for p in unet.parameters())


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (1, 4, 7, 8)])
def test_arrays_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"wants \(B, 4, H, W\).*multiples of 2"):
        awake()(torch.zeros(shape), torch.tensor([0]))


def test_classes_that_do_not_fit_are_refused():
    z, t = torch.zeros(1, 4, 8, 8), torch.tensor([0])
    with pytest.raises(ValueError, match="unconditional"):
        awake()(z, t, torch.tensor([0]))


# --- growing --------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [(32,), (32, 64), (32, 64, 32)])
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_a_deeper_unet_starts_with_what_the_other_computes(levels, blocks):
    unet = awake(channels=levels, num_classes=3)
    deeper = UNet(replace(unet.config, num_res_blocks=blocks))
    inherit(deeper, unet)
    z, t, y = torch.randn(2, 4, 8, 8), torch.tensor([7, 700]), torch.tensor([0, 2])
    assert_close(deeper(z, t, y), unet(z, t, y))


def test_the_blocks_that_are_added_learn():
    unet = awake()
    deeper = UNet(replace(unet.config, num_res_blocks=2))
    inherit(deeper, unet)
    deeper(torch.randn(2, 4, 8, 8), torch.tensor([7, 700])).sum().backward()
    added = deeper.down[1][0], deeper.down[4][0], deeper.up[1][0], deeper.up[5][0]
    assert all(bool((block.conv2.weight.grad != 0).any()) for block in added)


@pytest.mark.parametrize(
    "change", [{"num_res_blocks": 1}, {"channels": (32, 96)}, {"num_classes": 1}]
)
def test_nothing_else_may_differ(change):
    unet = awake(num_res_blocks=2)
    deeper = UNet(replace(unet.config, **change))
    with pytest.raises(ValueError, match="cannot pass its weights on to"):
        inherit(deeper, unet)
