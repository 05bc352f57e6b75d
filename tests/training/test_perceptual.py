"""Perceptual distances, through the very path that loads their networks."""

import pickle
import warnings
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial.landscapes.scenenet import SceneNet, SceneNetConfig
from ldm_tutorial.training import perceptual
from ldm_tutorial.training.perceptual import (
    TRUNKS,
    Alignment,
    load_perceptual,
    trunk_file,
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A TORCH_HOME of the test's own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def make_trunk(name: str) -> Path:
    """A file as torchvision would have fetched it, of random weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchvision import models
    network = {
        "lpips-squeeze": models.squeezenet1_1,
        "lpips-alex": models.alexnet,
        "lpips-vgg": models.vgg16,
    }[name]
    torch.manual_seed(1)
    path = trunk_file(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network(weights=None).state_dict(), path)
    return path


@pytest.fixture
def scenenet(tmp_path, monkeypatch):
    torch.manual_seed(3)
    net = SceneNet(SceneNetConfig(channels=(8, 16)))
    net.save(tmp_path / "scenenet")
    monkeypatch.setattr(perceptual, "SCENENET", tmp_path / "scenenet")
    return net


def pictures(size: int = 32):
    g = torch.Generator().manual_seed(0)
    return torch.rand(2, 2, 3, size, size, generator=g) * 2 - 1


def check_is_a_distance(distance):
    """Zero for the same images, above else; frozen, and blind to gradients into x."""
    x_hat, x = pictures(48)
    x_hat.requires_grad_(), x.requires_grad_()
    found = distance(x_hat, x)
    assert found.shape == (2,) and bool((found > 0).all())
    assert_close(distance(x, x), torch.zeros(2))
    found.sum().backward()
    assert x_hat.grad.isfinite().all() and x_hat.grad.any()
    assert x.grad is None
    assert all(p.grad is None and not p.requires_grad for p in distance.parameters())
    distance.train()
    assert not any(m.training for m in distance.modules())
    small = torch.zeros(1, 3, distance.smallest - 1, 64)
    with pytest.raises(ValueError, match=rf"sides of {distance.smallest} or ") as e:
        distance(small, small)
    assert "\n" not in str(e.value)
    least = torch.rand(1, 3, distance.smallest, distance.smallest)
    assert distance(least, -least).isfinite().all()
    with pytest.raises(ValueError, match="two batches of the same shape"):
        distance(x[:1], x)


def test_scenenet_is_a_distance_between_its_maps(scenenet):
    distance = load_perceptual("scenenet")
    check_is_a_distance(distance)
    x_hat, x = pictures()
    expected = 0
    for f_hat, f in zip(scenenet.maps(x_hat), scenenet.maps(x), strict=True):
        u, v = (t / t.norm(dim=1, keepdim=True) for t in (f_hat, f))
        expected = expected + (u - v).square().sum(1).mean((1, 2))
    assert_close(distance(x_hat, x), expected.detach())


def test_under_autocast_the_distance_is_float32(scenenet):
    distance = load_perceptual("scenenet")
    x_hat, x = pictures()
    exact = distance(x_hat, x)
    with torch.autocast("cpu", torch.bfloat16):
        found = distance(x_hat, x)
    assert found.dtype == torch.float32
    assert_close(found, exact, rtol=0.05, atol=0.02)


SLOW = [pytest.param(n, marks=pytest.mark.slow) for n in ("lpips-alex", "lpips-vgg")]


@pytest.mark.parametrize("name", ["lpips-squeeze", *SLOW])
def test_lpips_is_the_packages_own_distance(name, capsys):
    """Warnings are errors here, so none leaks either."""
    make_trunk(name)
    torch.manual_seed(5)
    expected_random = torch.rand(3)
    torch.manual_seed(5)
    distance = load_perceptual(name)
    assert torch.equal(torch.rand(3), expected_random)
    assert capsys.readouterr() == ("", "")
    check_is_a_distance(distance)
    x_hat, x = pictures(48)
    assert_close(distance(x_hat, x), distance.network(x_hat, x).flatten())
    trunk = torch.load(trunk_file(name), weights_only=True)
    loaded = distance.network.net.slice1[0].weight
    assert torch.equal(loaded, trunk["features.0.weight"])


def test_a_missing_trunk_says_where_it_looked_and_the_way_on(home):
    with pytest.raises(FileNotFoundError) as caught:
        load_perceptual("lpips-squeeze")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("squeezenet1_1-b8a52dc0.pth", str(home / "hub" / "checkpoints")):
        assert part in message
    for part in ("download=True", "--download", "perceptual='scenenet'"):
        assert part in message


def test_every_trunk_has_torchvisions_file_name(home):
    names = [trunk_file(name).name for name in TRUNKS]
    assert names == [
        "squeezenet1_1-b8a52dc0.pth",
        "alexnet-owt-7be5be79.pth",
        "vgg16-397923af.pth",
    ]
    assert {trunk_file(name).parent for name in TRUNKS} == {home / "hub/checkpoints"}


def test_fetching_without_a_network_is_one_line(home):
    with pytest.raises(
        OSError, match=r"could not fetch squeezenet1_1-.*go online"
    ) as e:
        load_perceptual("lpips-squeeze", download=True)
    assert "\n" not in str(e.value) and "perceptual='scenenet'" in str(e.value)


class Harm:
    def __reduce__(self):
        return (Path.touch, (Path("harm-was-done"),))


@pytest.mark.parametrize("damage", ["empty", "half", "other", "harm"])
def test_a_damaged_trunk_is_refused(damage, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = trunk_file("lpips-squeeze")
    path.parent.mkdir(parents=True)
    if damage == "half":
        torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
        path.write_bytes(path.read_bytes()[:3000])
    elif damage == "other":
        torch.save({"weight": torch.zeros(3)}, path)
    else:
        path.write_bytes(pickle.dumps(Harm()) if damage == "harm" else b"")
    with pytest.raises(
        ValueError, match=r"squeezenet.*damaged or of another"
    ) as caught:
        load_perceptual("lpips-squeeze")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "harm-was-done").exists()


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="'vgg' is unknown; choose scenenet, lpips-sq"):
        load_perceptual("vgg")


# --- alignment ------------------------------------------------------------------------


def test_aligned_features_say_what_scenenet_sees(scenenet):
    """The cosine of what is left when the mean over images and places is taken away."""
    alignment, (x, _) = Alignment(6), pictures()
    target = scenenet.maps(x)[-1]
    target = target - target.mean((0, 2, 3), keepdim=True)
    h = torch.randn(len(x), 6, *target.shape[-2:])
    for features, wanted in ((3 * target, 0), (-target, 2)):
        alignment.translate.forward = lambda _, f=features: f
        assert_close(alignment(h, x), torch.tensor(float(wanted)), atol=1e-5, rtol=0)


def test_alignment_learns_and_leaves_scenenet_alone(scenenet):
    alignment, (x, _) = Alignment(6), pictures()
    h = torch.randn(len(x), 6, 2, 2, requires_grad=True)  # a coarser map than its own
    alignment(h, x).backward()
    assert float(h.grad.abs().sum()) > 0
    assert all(p.grad is not None for p in alignment.parameters())
    assert not any("frozen" in name for name in alignment.state_dict())
    assert all(p.grad is None for p in alignment.frozen[0].parameters())


def test_alignment_names_images_that_are_too_small(scenenet):
    with pytest.raises(ValueError, match="sides of at least 4"):
        Alignment(6)(torch.zeros(1, 6, 1, 1), torch.zeros(1, 3, 2, 2))
