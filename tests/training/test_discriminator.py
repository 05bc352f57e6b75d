"""The patch discriminator: what a judgement sees, and of whom."""

import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial.training.discriminator import DiscriminatorConfig, PatchDiscriminator


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
