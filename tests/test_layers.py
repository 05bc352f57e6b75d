"""The networks' building blocks."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ldm_tutorial.layers import (
    Attention,
    Blocks,
    Downsample,
    ResBlock,
    TimeEmbedding,
    Upsample,
    group_norm,
)


@pytest.mark.parametrize("channels", [8, 16, 24, 64, 96, 128, 160, 192])
def test_groups_are_few_and_wide(channels):
    norm = group_norm(channels)
    assert channels // norm.num_groups >= 8 and norm.num_groups <= 8


def test_a_new_residual_block_is_the_identity():
    x = torch.randn(2, 16, 8, 8)
    assert_close(ResBlock(16, 16)(x), x)


def test_a_new_attention_layer_is_the_identity():
    x = torch.randn(2, 32, 4, 4)
    assert_close(Attention(32)(x), x)


def test_attention_is_torchs_multihead_attention():
    torch.manual_seed(0)
    ours, B, C = Attention(64, head_dim=32), 2, 64
    nn.init.normal_(ours.out.weight)
    theirs = nn.MultiheadAttention(C, 2, batch_first=True)
    theirs.in_proj_weight.data = ours.qkv.weight.data
    theirs.in_proj_bias.data = ours.qkv.bias.data
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    x = torch.randn(B, C, 3, 5)
    tokens = ours.norm(x).flatten(2).transpose(1, 2)
    wanted = x + theirs(tokens, tokens, tokens)[0].transpose(1, 2).view_as(x)
    assert_close(ours(x), wanted, atol=1e-5, rtol=1e-5)


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="48 channels"):
        Attention(48)


def test_resolution_halves_and_doubles():
    x = torch.randn(1, 8, 6, 10)
    assert Downsample(8, 12)(x).shape == (1, 12, 3, 5)
    assert Upsample(8, 4)(x).shape == (1, 4, 12, 20)


def test_one_sided_padding_sees_one_pixel_more_below_and_at_the_right():
    down = Downsample(1, 1, one_sided=True)
    nn.init.ones_(down.conv.weight)
    x = torch.zeros(1, 1, 4, 4)
    x[..., 2, 2] = 1  # in the window of each output: rows and columns 0-2 and 2-4
    assert_close(down(x) - down.conv.bias.view(1, 1, 1, 1), torch.ones(1, 1, 2, 2))


def test_copying_first_convolves_at_the_fine_resolution():
    up, x = Upsample(1, 1, copy_first=True), torch.randn(1, 1, 3, 3)
    nn.init.constant_(up.conv.weight, 1 / 9)
    smooth = up(x) - up.conv.bias.view(1, 1, 1, 1)
    fine = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert_close(smooth[0, 0, 2, 2], fine[0, 0, 1:4, 1:4].mean())


def test_time_embedding_tells_all_times_apart():
    torch.manual_seed(0)
    emb = TimeEmbedding(32)(torch.arange(1000))
    distances = torch.cdist(emb, emb) + torch.eye(1000) * 1e3
    assert emb.shape == (1000, 32) and float(distances.detach().min()) > 1e-4


def test_blocks_of_large_images_keep_less_and_give_the_same_gradients(monkeypatch):
    """As nn.Sequential, whether layers are computed again or not."""
    torch.manual_seed(0)
    blocks = Blocks(ResBlock(8, 8), ResBlock(8, 8))
    for parameter in blocks.parameters():
        nn.init.normal_(parameter, std=0.1)
    x = torch.randn(2, 8, 16, 16)

    def gradients():
        kept = 0

        def keep(tensor):
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = blocks(x).square().mean()
        return kept, torch.autograd.grad(loss, list(blocks.parameters()))

    whole_kept, whole = gradients()
    monkeypatch.setattr("ldm_tutorial.layers.RECOMPUTE_ABOVE", 8 * 16 * 16 - 1)
    less_kept, again = gradients()
    assert less_kept < whole_kept / 3
    assert_close(again, whole)
    monkeypatch.setattr("ldm_tutorial.layers.RECOMPUTE_ABOVE", 8 * 16 * 16)
    assert gradients()[0] == whole_kept


def test_blocks_without_gradients_are_computed_once(monkeypatch):
    monkeypatch.setattr("ldm_tutorial.layers.RECOMPUTE_ABOVE", 0)
    monkeypatch.setattr("ldm_tutorial.layers.checkpoint", None)
    blocks, x = Blocks(nn.SiLU()), torch.ones(1, 1, 2, 2)
    with torch.no_grad():
        assert blocks(x).shape == x.shape
    with pytest.raises(TypeError):
        blocks(x)
