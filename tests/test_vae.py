import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial.layers import conv3x3
from ldm_tutorial.vae import (
    AutoencoderKL,
    VAEConfig,
    add_head,
    equal_subpixels,
    remove_checkerboard,
)

SMALL = dict(channels=(8, 8, 16, 16, 16))


@pytest.mark.parametrize("f", [4, 8, 16])
@pytest.mark.parametrize("C", [1, 4, 8, 16])
def test_latent_and_reconstruction_have_their_shapes(f, C):
    vae = AutoencoderKL(VAEConfig(downsampling=f, latent_channels=C, **SMALL))
    x = torch.randn(2, 3, 64, 32)
    posterior = vae.encode(x)
    assert posterior.mu.shape == (2, C, 64 // f, 32 // f)
    assert vae.decode(posterior.mode()).shape == x.shape


@pytest.mark.parametrize("patches", [(1, 1), (2, 2), (4, 2), (8, 8)])
def test_any_patch_size_works(patches):
    config = VAEConfig(encoder_patch=patches[0], decoder_patch=patches[1], **SMALL)
    x_hat, posterior = AutoencoderKL(config)(torch.randn(1, 3, 32, 32))
    assert x_hat.shape == (1, 3, 32, 32) and posterior.mu.shape == (1, 4, 4, 4)


def test_mid_attention_is_optional():
    config = VAEConfig(channels=(32,), mid_attention=True)
    assert AutoencoderKL(config)(torch.randn(1, 3, 16, 16))[0].shape == (1, 3, 16, 16)


def test_no_convolution_of_the_default_runs_at_full_resolution():
    vae, sizes = AutoencoderKL(), []
    for module in vae.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda m, i, o: sizes.append(o.shape[-1]))
    vae(torch.randn(1, 3, 64, 64))
    assert sizes and max(sizes) == 32


def test_stable_diffusions_layout_goes_with_patches_too():
    config = VAEConfig(channels=(32, 64), layout="stable-diffusion", mid_attention=True)
    x_hat, posterior = AutoencoderKL(config)(torch.randn(1, 3, 32, 16))
    assert x_hat.shape == (1, 3, 32, 16) and posterior.mu.shape == (1, 4, 4, 2)


@pytest.mark.parametrize(
    "shape",
    [{}, {"layout": "stable-diffusion", "quant_conv": True, "post_quant_conv": True}],
)
def test_every_parameter_gets_a_gradient(shape):
    vae = AutoencoderKL(VAEConfig(**SMALL, **shape))
    for parameter in vae.parameters():  # leave the zero-initialised start
        torch.nn.init.normal_(parameter, std=0.1)
    x_hat, posterior = vae(torch.randn(2, 3, 32, 32))
    (x_hat.square().mean() + posterior.kl().mean()).backward()
    assert all(bool((p.grad != 0).any()) for p in vae.parameters())


def test_a_few_steps_lower_the_error():
    torch.manual_seed(0)
    vae = AutoencoderKL(VAEConfig(**SMALL))
    x = torch.nn.functional.interpolate(torch.randn(8, 3, 4, 4), scale_factor=8)
    optimizer = torch.optim.Adam(vae.parameters(), 3e-3)
    errors = []
    for _ in range(40):
        error = (vae(x)[0] - x).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.7 * errors[0]


def test_a_generator_fixes_the_reconstruction():
    vae, x = AutoencoderKL(VAEConfig(**SMALL)), torch.randn(1, 3, 32, 32)
    one, two = (vae(x, torch.Generator().manual_seed(1))[0] for _ in range(2))
    assert_close(one, two, atol=0, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1, 64, 64), (1, 3, 60, 64), (3, 64, 64)])
def test_images_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"wants \(B, 3, H, W\).*multiples of 8"):
        AutoencoderKL(VAEConfig(**SMALL)).encode(torch.zeros(shape))


def test_latents_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"wants \(B, 4, h, w\)"):
        AutoencoderKL(VAEConfig(**SMALL)).decode(torch.zeros(1, 8, 8, 8))


@pytest.mark.parametrize(
    "wrong",
    [
        {"downsampling": 6},
        {"encoder_patch": 3},
        {"downsampling": 2},
        {"layout": "other"},
        {"norm_num_groups": 3},
        {"norm_num_groups": 0},
    ],
)
def test_an_impossible_shape_is_refused(wrong):
    with pytest.raises(ValueError, match="give"):
        VAEConfig(**wrong)


# --- the decoder's head ---------------------------------------------------------------


def test_equal_subpixels_copy_each_pixel(patch=4):
    """Aitken et al. 2017, sec. 3.2: shuffled, the convolution is nearest-neighbour
    upsampling of one with a patch^2-th of the channels."""
    torch.manual_seed(0)
    conv, x = equal_subpixels(conv3x3(5, 2 * patch**2), patch), torch.randn(2, 5, 6, 6)
    shuffled = torch.nn.functional.pixel_shuffle(conv(x), patch)
    small = torch.nn.functional.conv2d(
        x, conv.weight[:: patch**2], conv.bias[:: patch**2], padding=1
    )
    copied = small.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    assert_close(shuffled, copied)
    assert shuffled.std() > 0.1


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_a_head_works_at_full_resolution_on_few_channels(patch):
    config = VAEConfig(decoder_patch=patch, head_channels=16)
    vae, sizes = AutoencoderKL(config), []
    for module in vae.decoder.out:
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(
                lambda m, i, o: sizes.append((i[0].shape[1], o.shape[-1]))
            )
    assert vae.decode(torch.randn(1, 4, 4, 4)).shape == (1, 3, 32, 32)
    assert sizes == [(config.width(patch // 2), 32 // patch), (16, 32), (16, 32)]


@pytest.mark.parametrize("head_channels", [0, 16])
def test_the_last_layer_is_the_one_that_ends_in_the_image(head_channels):
    decoder = AutoencoderKL(VAEConfig(head_channels=head_channels)).decoder
    one, two = torch.randn(2, 1, 4, 2, 2)
    with torch.no_grad():
        assert (decoder(one) - decoder(two)).abs().max() > 1e-2
        decoder.last_layer.zero_()
        assert torch.equal(decoder(one), decoder(two))  # the bias alone is left


def test_without_a_head_the_shipped_shape_stays():
    names = AutoencoderKL(VAEConfig()).decoder.out.state_dict().keys()
    assert names == {"0.weight", "0.bias", "2.weight", "2.bias"}


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_a_decoder_with_a_new_head_paints_the_same(patch):
    """And every weight of the head can learn from there, by and by."""
    torch.manual_seed(0)
    plain = AutoencoderKL(VAEConfig(decoder_patch=patch, **SMALL)).decoder
    headed = AutoencoderKL(
        VAEConfig(decoder_patch=patch, head_channels=8, **SMALL)
    ).decoder
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    add_head(headed, plain)
    z = torch.randn(2, 4, 4, 4)
    x = plain(z).detach()
    assert_close(headed(z), x, atol=1e-5, rtol=1e-5)
    assert x.std() > 0.05
    optimizer = torch.optim.Adam(headed.parameters(), 1e-3)
    for _ in range(2):  # what is unheard at first is heard after a step
        optimizer.zero_grad()
        (headed(z) - 0.5 * x).square().mean().backward()
        optimizer.step()
    assert all(bool(p.grad.any()) for p in headed.out.parameters())


def test_a_head_without_its_checkerboard_is_deaf_to_that_and_to_nothing_smooth():
    """A checkerboard in, nothing out; a constant or a slope comes out as before."""
    torch.manual_seed(0)
    decoder = AutoencoderKL(VAEConfig(head_channels=8, **SMALL)).decoder
    last = decoder.out[-1]
    i, j = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
    board = ((-1.0) ** (i + j)).expand(1, 8, 9, 9)
    smooth = [s.expand(1, 8, 9, 9) for s in (torch.ones(9, 9), i - 2 * j)]
    before = [last(x)[..., 1:-1, 1:-1] for x in (board, *smooth)]
    remove_checkerboard(decoder)
    after = [last(x)[..., 1:-1, 1:-1] for x in (board, *smooth)]
    silent = last.bias.view(1, 3, 1, 1).expand_as(after[0])
    assert_close(after[0], silent, atol=1e-5, rtol=0)
    assert float((before[0] - silent).detach().std()) > 0.1
    assert_close(after[1:], before[1:], atol=1e-5, rtol=1e-5)
    weights = last.weight.clone()
    remove_checkerboard(decoder)
    assert_close(last.weight, weights, atol=1e-6, rtol=0)  # there is nothing left


def test_without_a_head_there_is_no_checkerboard_to_remove():
    with pytest.raises(ValueError, match="this decoder has no head; give vae"):
        remove_checkerboard(AutoencoderKL(VAEConfig(**SMALL)).decoder)


@pytest.mark.parametrize("channels", [-1, 5])
def test_too_small_a_head_is_refused(channels):
    message = f"head_channels={channels}; give 0 for none, or 6 or more"
    with pytest.raises(ValueError, match=message) as caught:
        VAEConfig(head_channels=channels)
    assert "\n" not in str(caught.value)
