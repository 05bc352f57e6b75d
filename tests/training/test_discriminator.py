"""The patch discriminator: what a judgement sees, and of whom."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from ldm_tutorial.training.discriminator import (
    DiscriminatorConfig,
    PatchDiscriminator,
    r1_penalty,
)


def made(**config) -> PatchDiscriminator:
    torch.manual_seed(0)
    return PatchDiscriminator(DiscriminatorConfig(**config))


def test_it_is_small_and_gives_one_logit_a_patch():
    net = made()
    parameters = sum(p.numel() for p in net.parameters())
    assert 100_000 < parameters < 250_000
    logits = net(torch.rand(2, 3, 64, 48))
    assert logits.shape == (2, 1, 14, 10) and logits.dtype == torch.float32


@pytest.mark.parametrize("layers, patch", [(1, 16), (2, 34), (3, 70)])
def test_a_judgement_sees_a_patch(layers, patch):
    """The convolutions alone, for GroupNorm looks at the whole image: the gradient of
    the middle logit with respect to the pixels."""
    net = made(channels=8, num_layers=layers)
    for i, block in enumerate(net.blocks):
        if isinstance(block, torch.nn.GroupNorm):
            net.blocks[i] = torch.nn.Identity()
    x = torch.rand(1, 3, 96, 96, requires_grad=True)
    logits = net(x)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    seen = x.grad.abs().sum((0, 1))
    assert [int(seen.sum(d).count_nonzero()) for d in (0, 1)] == [patch, patch]


def test_every_image_is_judged_by_itself():
    net, x = made(channels=8), torch.rand(3, 3, 32, 32)
    together = net(x)
    for i in range(3):
        assert_close(together[i : i + 1], net(x[i : i + 1]))


def test_judging_changes_nothing():
    net = made(channels=8).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net(torch.rand(2, 3, 32, 32))
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not list(net.buffers())


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_smallest_image_still_gives_a_logit(layers):
    net = made(channels=8, num_layers=layers)
    s = net.smallest
    assert net(torch.rand(1, 3, s, s)).numel() == 1
    for shape in ((1, 3, s, s - 1), (1, 1, s, s), (3, s, s)):
        with pytest.raises(
            ValueError, match=rf"wants \(B, 3, H, W\).*{s} or more"
        ) as e:
            net(torch.rand(shape))
        assert "\n" not in str(e.value)


@pytest.mark.parametrize("field", ["in_channels", "channels", "num_layers"])
def test_impossible_settings_are_refused(field):
    with pytest.raises(ValueError, match=f"{field}=0; give 1 or more"):
        DiscriminatorConfig(**{field: 0})


def test_an_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="norm='batch' is unknown; choose group, spe"):
        DiscriminatorConfig(norm="batch")


# --- what keeps it from winning -------------------------------------------------------


def test_a_spectral_norm_bounds_every_layer():
    """No layer stretches a difference by more than one: all singular values of its
    weight, as a matrix of outputs by inputs, are at most 1."""
    net = made(channels=8, norm="spectral")
    for layer in (m for m in net.modules() if isinstance(m, nn.Conv2d)):
        for _ in range(50):  # one power iteration a call
            layer.weight  # noqa: B018
        with torch.no_grad():
            largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert_close(largest, torch.tensor(1.0), atol=2e-2, rtol=0)


@pytest.mark.parametrize("norm", ["spectral", "none"])
def test_without_group_norm_a_judgement_sees_its_patch_alone(norm):
    net, x = made(channels=8, norm=norm).eval(), torch.rand(1, 3, 64, 64)
    assert not any(isinstance(m, nn.GroupNorm) for m in net.modules())
    with torch.no_grad():
        before = net(x)
        x[..., :8, :8] = 0
        after = net(x)
    assert torch.equal(before[..., -5:, -5:], after[..., -5:, -5:])
    assert not torch.allclose(before[..., :2, :2], after[..., :2, :2])


class Linear(nn.Module):
    """A critic that judges patches of 4 x 4 pixels by one filter."""

    def __init__(self, stride):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 1, 4, stride=stride)

    def forward(self, x):
        return self.conv(x)


def test_r1_of_a_linear_critic_is_the_square_of_its_filter():
    """Mescheder et al. 2018, eq. 9: D(x) = <w, x> + b has the gradient w everywhere.
    Patches that do not overlap: exact with any signs."""
    critic, x = Linear(stride=4), torch.rand(5, 3, 16, 12)
    expected = critic.conv.weight.square().sum()
    for seed in range(3):
        g = torch.Generator().manual_seed(seed)
        assert_close(r1_penalty(critic, x, g), expected)
    assert_close(r1_penalty(critic, x[:1, :, :4, :4]), expected)  # of any size


def test_r1_of_overlapping_judgements_is_right_on_average():
    critic, x = Linear(stride=1), torch.rand(2, 3, 12, 12)
    g = torch.Generator().manual_seed(0)
    found = torch.stack([r1_penalty(critic, x, g).detach() for _ in range(300)])
    error = found.std() / len(found) ** 0.5
    assert abs(found.mean() - critic.conv.weight.square().sum()) < 4 * error
    assert found.std() > 0  # the signs matter here


def test_r1_teaches_the_critic_and_nobody_else():
    """Its gradient on a linear critic is 2 w, and none reaches the images."""
    critic, x = Linear(stride=4), torch.rand(2, 3, 8, 8, requires_grad=True)
    r1_penalty(critic, x).backward()
    assert_close(critic.conv.weight.grad, 2 * critic.conv.weight.detach())
    assert x.grad is None


def test_r1_is_taken_in_float32_under_autocast():
    critic, x = made(channels=8), torch.rand(2, 3, 32, 32)
    plain = r1_penalty(critic, x, torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        cast = r1_penalty(critic, x, torch.Generator().manual_seed(0))
    assert torch.equal(plain, cast)


@pytest.mark.parametrize("norm", ["group", "spectral", "none"])
def test_r1_flattens_any_critic(norm):
    """Steps down the penalty alone make it smaller."""
    critic, x = made(channels=8, norm=norm), torch.rand(2, 3, 32, 32)
    optimizer = torch.optim.Adam(critic.parameters(), 1e-3)
    found = []
    for _ in range(10):
        penalty = r1_penalty(critic, x, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        penalty.backward()
        optimizer.step()
        found.append(penalty.item())
    assert found[-1] < 0.8 * found[0]
