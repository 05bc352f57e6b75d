"""The transformer that stands in the place of the UNet."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ldm_tutorial.diffusion import diffusion_loss
from ldm_tutorial.dit import (
    Block,
    DiT,
    DiTConfig,
    modulate,
    patchify,
    positions,
    unpatchify,
)
from ldm_tutorial.guidance import guided
from ldm_tutorial.samplers import ddim, last
from ldm_tutorial.schedule import NoiseSchedule

SMALL = DiTConfig(in_channels=3, patch_size=2, width=16, depth=2, num_heads=2)
CLASSES = DiTConfig(width=16, depth=2, num_heads=2, num_classes=5)


def trained(config=SMALL, seed=0):
    """A DiT away from its start, where no layer puts out zeros."""
    torch.manual_seed(seed)
    dit = DiT(config)
    for parameter in dit.parameters():
        nn.init.normal_(parameter, std=0.2)
    return dit.eval()


def test_patchify_puts_each_patch_into_one_token():
    x = torch.randn(2, 3, 4, 6)
    tokens = patchify(x, 2)
    assert tokens.shape == (2, 6, 12)
    # Row 1, column 2 of the patches is the token 1 * 3 + 2.
    assert_close(tokens[:, 5].view(2, 3, 2, 2), x[:, :, 2:4, 4:6])


@pytest.mark.parametrize("p", [1, 2, 4])
def test_unpatchify_is_the_inverse(p):
    x = torch.randn(2, 3, 8, 4)
    assert_close(unpatchify(patchify(x, p), p, 8, 4), x, atol=0, rtol=0)


def test_positions_are_all_different_and_have_one_length():
    table = positions(5, 7, 32, torch.zeros(()))
    assert table.shape == (35, 32)
    assert_close(table.square().sum(1), torch.full((35,), 16.0))  # sin^2 + cos^2 = 1
    assert torch.cdist(table, table)[~torch.eye(35, dtype=torch.bool)].min() > 0.1


def test_the_product_of_two_positions_depends_on_their_distance_alone():
    table = positions(6, 6, 32, torch.zeros(())).view(6, 6, 32)
    here = (table[1, 2] * table[3, 5]).sum()
    assert_close((table[2, 0] * table[4, 3]).sum(), here, atol=1e-4, rtol=1e-4)


def test_rows_and_columns_have_halves_of_their_own():
    table = positions(3, 4, 16, torch.zeros(())).view(3, 4, 16)
    assert_close(table[:, :1, :8].expand(3, 4, 8), table[..., :8])
    assert_close(table[:1, :, 8:].expand(3, 4, 8), table[..., 8:])


def test_positions_are_exact_in_half_precision():
    exact = positions(1, 300, 16, torch.zeros(()))
    half = positions(1, 300, 16, torch.zeros((), dtype=torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert_close(half.float(), exact, atol=4e-3, rtol=0)


def test_a_new_block_is_the_identity():
    h, c = torch.randn(2, 9, 16), torch.randn(2, 16)
    assert_close(Block(SMALL)(h, c), h, atol=0, rtol=0)


def test_a_new_model_predicts_nothing():
    z_t = torch.randn(2, 3, 8, 8)
    assert_close(DiT(SMALL)(z_t, torch.tensor([0, 9])), torch.zeros_like(z_t))


def test_modulation_scales_and_shifts_every_token_alike():
    h = torch.randn(2, 5, 4)
    shift, scale = torch.randn(2, 2, 1, 4)
    wanted = torch.stack([h[b] * (1 + scale[b]) + shift[b] for b in range(2)])
    assert_close(modulate(h, shift, scale), wanted)


def test_a_block_does_not_know_the_order_of_its_tokens():
    torch.manual_seed(0)
    block = Block(SMALL)
    nn.init.normal_(block.modulation.weight)
    h, c, order = torch.randn(2, 9, 16), torch.randn(2, 16), torch.randperm(9)
    assert_close(block(h, c)[:, order], block(h[:, order], c), atol=1e-5, rtol=1e-5)


def test_the_model_does_through_its_positions():
    dit, z_t = trained(), torch.randn(1, 3, 8, 8)
    t = torch.tensor([3])
    rolled = dit(z_t.roll(4, dims=3), t).roll(-4, dims=3)
    assert (rolled - dit(z_t, t)).abs().max() > 1e-2


def test_attention_is_torchs_multihead_attention():
    torch.manual_seed(0)
    block = Block(SMALL)
    theirs = nn.MultiheadAttention(16, 2, batch_first=True)
    theirs.in_proj_weight.data = block.qkv.weight.data
    theirs.in_proj_bias.data = block.qkv.bias.data
    theirs.out_proj.load_state_dict(block.out.state_dict())
    h = torch.randn(2, 7, 16)
    assert_close(block.attend(h), theirs(h, h, h)[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("size", [(4, 4), (8, 8), (6, 10)])
def test_any_size_works_and_samples_do_not_mix(size):
    dit, z_t, t = trained(), torch.randn(3, 3, *size), torch.tensor([0, 500, 999])
    out = dit(z_t, t)
    assert out.shape == z_t.shape
    for b in range(3):
        assert_close(dit(z_t[b : b + 1], t[b : b + 1])[0], out[b], atol=1e-5, rtol=1e-4)


def test_time_and_class_matter_and_none_is_the_last_class():
    dit, z_t = trained(CLASSES), torch.randn(1, 4, 4, 4)
    t, y = torch.tensor([3]), torch.tensor([2])
    out = dit(z_t, t, y)
    assert (dit(z_t, t + 100, y) - out).abs().max() > 1e-3
    assert (dit(z_t, t, y + 1) - out).abs().max() > 1e-3
    assert_close(dit(z_t, t), dit(z_t, t, torch.tensor([5])), atol=0, rtol=0)


def test_every_parameter_gets_a_gradient():
    dit = trained(CLASSES)
    y = torch.arange(6)
    dit(torch.randn(6, 4, 4, 4), torch.arange(6), y).square().mean().backward()
    assert all(bool((p.grad != 0).any()) for p in dit.parameters())


def test_a_few_steps_lower_the_loss_and_samples_are_finite():
    torch.manual_seed(0)
    dit, schedule = DiT(CLASSES), NoiseSchedule.linear(50, 1e-3, 0.3)
    z_0, y = torch.randn(16, 4, 1, 1).expand(16, 4, 4, 4), torch.arange(16) % 5
    optimizer = torch.optim.Adam(dit.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss = diffusion_loss(lambda z_t, t: dit(z_t, t, y), schedule, z_0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    denoiser = guided(dit, torch.tensor([0, 1]), 2.0)
    z_0 = last(ddim(denoiser, schedule, torch.randn(2, 4, 4, 4), steps=5))
    assert z_0.isfinite().all()


@pytest.mark.parametrize("with_classes", [False, True])
def test_it_exports_and_compiles_without_a_break(with_classes):
    dit = trained(CLASSES)
    arguments = (torch.randn(2, 4, 4, 4), torch.tensor([1, 2]))
    if with_classes:
        arguments += (torch.tensor([0, 4]),)
    with torch.no_grad():
        wanted = dit(*arguments)
        exported = torch.export.export(dit, arguments).module()
        assert_close(exported(*arguments), wanted)
        compiled = torch.compile(dit, fullgraph=True, backend="eager")
        assert_close(compiled(*arguments), wanted)


def test_half_precision_goes_through():
    dit = trained(CLASSES).bfloat16()
    z_t = torch.randn(2, 4, 4, 4, dtype=torch.bfloat16)
    assert dit(z_t, torch.tensor([1, 999])).dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (1, 3, 7, 8)])
def test_arrays_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"wants \(B, 3, H, W\).*multiples of 2"):
        DiT(SMALL)(torch.zeros(shape), torch.tensor([0]))


def test_classes_without_use_are_refused():
    with pytest.raises(ValueError, match="unconditional DiT"):
        DiT(SMALL)(torch.zeros(1, 3, 4, 4), torch.tensor([0]), torch.tensor([0]))


@pytest.mark.parametrize("wrong", [{"width": 30}, {"width": 32, "num_heads": 3}])
def test_an_impossible_shape_is_refused(wrong):
    with pytest.raises(ValueError, match="give a number that does"):
        DiTConfig(**wrong)
