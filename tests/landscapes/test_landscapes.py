"""The procedural landscapes: reproducible for ever, and true to their rules."""

import pytest
import torch
from torch.nn.functional import avg_pool2d
from torch.testing import assert_close
from torch.utils.data import DataLoader

from ldm_tutorial.landscapes.dataset import DETAILS, Landscapes, detail_masks, render
from ldm_tutorial.landscapes.factors import (
    BIOMES,
    CLASS_NAMES,
    DAY,
    DESERT,
    DUSK,
    FOREST,
    NIGHT,
    SEA,
    SNOW,
    TIMES,
    _keys,
    sample_factors,
)

CLOSE = {"rtol": 0, "atol": 1e-5}


def scenes(n, seed=0, label=None, **changes):
    generator = torch.Generator().manual_seed(seed)
    return sample_factors(n, generator, label).replace(**changes)


def stack(pairs):
    return torch.stack([x for x, _ in pairs])


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Images this small are drawn faster by one thread where others work, too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def many():
    factors = scenes(160, seed=1)
    return factors, detail_masks(factors)


# --- numbers for ever -----------------------------------------------------------------


def test_hash_is_splitmix64():
    """The published first outputs of SplitMix64 from state 0."""
    known = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [key % 2**64 for key in _keys(torch.tensor(0), 3).tolist()] == known


@pytest.mark.parametrize(
    ("split", "index", "name", "colour"),
    [
        ("train", 0, "dawn sea", (0.4309, 0.3234, 0.3602)),
        ("train", 1, "night sea", (-0.6695, -0.5244, -0.2195)),
        ("train", 49999, "night snow", (-0.6205, -0.4791, -0.1528)),
        ("train", 1000000000000, "day forest", (0.0279, 0.3286, 0.3482)),
        ("validation", 0, "dawn desert", (0.6585, 0.3326, 0.2158)),
        ("test", 0, "day desert", (0.4995, 0.5170, 0.4874)),
        ("test", 1999, "dawn snow", (0.6894, 0.4967, 0.5292)),
    ],
)
def test_an_image_is_the_same_for_ever(split, index, name, colour):
    x, label = Landscapes(split, length=2**40)[index]
    assert CLASS_NAMES[label] == name
    assert_close(x.mean((1, 2)), torch.tensor(colour), rtol=0, atol=1e-3)


def test_an_image_does_not_depend_on_its_batch():
    data = Landscapes(length=500)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))[:70]
    batch = data.__getitems__(order.tolist())  # more than one chunk
    for position in (0, 13, 63, 64, 69):
        x, label = data[int(order[position])]
        assert_close(batch[position][0], x, **CLOSE)
        assert batch[position][1] == label


def test_the_loader_gives_the_same_images():
    data = Landscapes("test", length=10)
    x, label = next(iter(DataLoader(data, batch_size=4)))
    assert_close(x, stack(data[i] for i in range(4)), **CLOSE)
    assert_close(label, data.factors(range(4)).label)


def test_splits_and_seeds_never_share_an_image():
    sets = [Landscapes(split) for split in ("train", "validation", "test")]
    sets.append(Landscapes(seed=1))
    phases = [data.factors(range(1000)).ridge_phase[:, 0, 0] for data in sets]
    seeds = torch.cat([data.factors(range(1000)).texture_seed for data in sets])
    assert len(seeds.unique()) == 4000
    correlation = torch.corrcoef(torch.stack(phases))
    assert_close(correlation, torch.eye(4), rtol=0, atol=0.15)


def test_a_shorter_set_is_the_start_of_a_longer_one():
    assert len(Landscapes()) == 50_000
    short, long = Landscapes(length=3), Landscapes(length=10**12)
    assert_close(stack(short[i] for i in range(3)), stack(long[i] for i in range(3)))


def test_a_generator_decides_the_sample():
    one, same, other = scenes(8, seed=5), scenes(8, seed=5), scenes(8, seed=6)
    assert_close(render(one), render(same))
    assert not torch.equal(one.sun_x, other.sun_x)


def test_factors_have_the_stated_distributions():
    factors = scenes(20_000)
    share = torch.bincount(factors.label, minlength=16) / 20_000
    assert_close(share, torch.full((16,), 1 / 16), rtol=0, atol=0.008)
    assert_close(factors.sun_x.mean(), torch.tensor(0.5), rtol=0, atol=0.01)
    trees = torch.bincount(factors.tree_count) / 20_000
    assert_close(trees, torch.full((5,), 0.2), rtol=0, atol=0.02)
    land = factors.biome != SEA
    assert factors.house[land].float().mean().sub(0.45).abs() < 0.02
    assert not factors.house[~land].any()
    numbers = torch.stack([factors.haze, factors.warmth, factors.sun_x, factors.sun_y])
    off_diagonal = torch.corrcoef(numbers) - torch.eye(4)
    assert off_diagonal.abs().max() < 0.05


# --- images ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [8, 40, 64])
def test_images_are_float32_in_range(size):
    x = render(scenes(17), size)
    assert x.shape == (17, 3, size, size)
    assert x.dtype == torch.float32
    assert x.min() >= -1
    assert x.max() <= 1
    assert x.std() > 0.3


def test_no_images_are_no_error():
    assert render(scenes(0)).shape == (0, 3, 64, 64)
    assert detail_masks(scenes(0))["sky"].shape == (0, 64, 64)


def test_a_scene_is_the_same_at_any_size():
    factors = scenes(16, label=torch.arange(16))
    difference = (avg_pool2d(render(factors, 128), 2) - render(factors, 64)).abs()
    assert difference.mean() < 0.006
    assert difference.mean((1, 2, 3)).max() < 0.02


def test_classes_look_different():
    """A classifier by nearest mean image finds most times of day, not by chance."""
    train, test = scenes(320, 2, torch.arange(320) % 16), scenes(160, 3)
    means = render(train, 16).view(20, 16, -1).mean(0)
    guess = torch.cdist(render(test, 16).flatten(1), means).argmin(1)
    assert (guess // 4 == test.time).float().mean() > 0.9
    assert (guess == test.label).float().mean() > 0.6


# --- factors --------------------------------------------------------------------------


def test_label_names_time_and_biome():
    factors = scenes(16, label=torch.arange(16))
    assert_close(factors.label, torch.arange(16))
    for name, time, biome in zip(CLASS_NAMES, factors.time, factors.biome, strict=True):
        assert name == f"{TIMES[time]} {BIOMES[biome]}"
    assert Landscapes().classes == CLASS_NAMES


def test_indexing_keeps_the_leading_dimension():
    factors = scenes(6)
    assert len(factors[2]) == 1
    assert_close(factors[-1].ridge_phase, factors.ridge_phase[5:])
    assert_close(factors[1:4].tree_x, factors.tree_x[1:4])
    chosen = torch.tensor([4, 0, 4])
    assert_close(render(factors[chosen]), render(factors)[chosen], **CLOSE)
    with pytest.raises(IndexError):
        factors[6]


def test_replace_takes_numbers_and_tensors():
    factors = scenes(4)
    assert_close(factors.replace(sun_x=0.2).sun_x, torch.full((4,), 0.2))
    assert_close(factors.replace(time=NIGHT).label, 12 + factors.biome)
    assert_close(factors.replace(tree_x=0.5).tree_x, torch.full((4, 4), 0.5))
    x = torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert_close(factors.replace(tree_x=x).tree_x, x[:, None].expand(4, 4))
    assert_close(factors.replace(sun_y=x).sun_y, x)
    assert_close(factors.sun_x, scenes(4).sun_x)  # itself unchanged
    with pytest.raises(ValueError, match=r"no factor 'moon'.*sun_x"):
        factors.replace(moon=1)
    with pytest.raises(ValueError, match="no factor 'label'"):
        factors.replace(label=1)


def test_the_sun_stands_where_its_factors_say():
    factors = scenes(4, label=5, sun_y=0.2, cloud_cover=0.0, sun_radius=0.06)
    x = torch.tensor([0.2, 0.4, 0.6, 0.8])
    brightness = render(factors.replace(sun_x=x)).mean(1)[:, :32].clamp(min=0.86) - 0.86
    grid = (torch.arange(64) + 0.5) / 64
    weight = brightness / brightness.sum((1, 2), keepdim=True)
    assert_close((weight.sum(1) * grid).sum(1), x, rtol=0, atol=0.01)
    height = (weight.sum(2) * grid[:32]).sum(1)
    assert_close(height, torch.full((4,), 0.2), rtol=0, atol=0.01)


@pytest.mark.parametrize(
    ("label", "changes", "rows"),
    [
        (0, {"cloud_seed": 1}, slice(49, 64)),  # clouds end at y = 0.75
        (0, {"star_seed": 1}, slice(0, 64)),  # no stars at dawn
        (1, {"tree_height": 0.2}, slice(0, 10)),
        (2, {"house_hue": 0.3}, slice(0, 20)),
        (3, {"house": True}, slice(0, 64)),  # no house in the sea
        (5, {"shore_side": -1.0}, slice(0, 64)),  # no shore in the desert
        (7, {"texture_seed": 1}, slice(0, 10)),
        (13, {"sun_radius": 0.07}, slice(58, 64)),  # no water to mirror the moon
        (12, {"ridge_phase": 0.0}, slice(0, 8)),
    ],
)
def test_a_factor_changes_only_its_own_region(label, changes, rows):
    factors = scenes(6, label=label, sun_y=0.3, tree_count=4)
    before, after = render(factors), render(factors.replace(**changes))
    assert_close(after[:, :, rows], before[:, :, rows], rtol=0, atol=1e-6)
    everything = rows == slice(0, 64)
    assert torch.equal(before, after) == everything


# --- details and the rules of the world -----------------------------------------------


def test_masks_are_bools_that_never_overlap(many):
    _, masks = many
    assert tuple(masks) == DETAILS
    for mask in masks.values():
        assert mask.shape == (160, 64, 64)
        assert mask.dtype == torch.bool
        assert mask.any()
    assert torch.stack(list(masks.values())).sum(0).max() == 1


@pytest.mark.parametrize(
    ("detail", "where"),
    [
        ("stars", lambda f: f.time == NIGHT),
        ("windows", lambda f: f.house & (f.biome != SEA)),
        ("waves", lambda f: f.biome == SEA),
        ("trunks", lambda f: f.tree_count > 0),
        ("sky", lambda f: f.time >= 0),
        ("ridge edges", lambda f: f.time >= 0),
        ("texture", lambda f: f.time >= 0),
    ],
)
def test_details_appear_where_the_rules_allow(many, detail, where):
    factors, masks = many
    count, allowed = masks[detail].sum((1, 2)), where(factors)
    assert (count[~allowed] == 0).all()
    assert (count[allowed] > 0).float().mean() > 0.85  # trees may hide a window


def test_new_stars_change_the_image_at_stars_only():
    factors = scenes(12, label=4 * NIGHT + DESERT)
    others = factors.replace(star_seed=torch.arange(12))
    changed = (render(factors) - render(others)).abs().amax(1) > 0.35
    stars = detail_masks(factors)["stars"] | detail_masks(others)["stars"]
    assert changed.any()
    assert not (changed & ~stars).any()


def test_windows_shine_at_dusk_and_at_night_only():
    factors = scenes(8, label=FOREST, house=True, tree_count=0, house_size=0.22)
    windows = detail_masks(factors)["windows"]
    warmth = {}
    for time in range(4):
        x = render(factors.replace(time=time))
        warmth[time] = (x[:, 0] - x[:, 2])[windows].mean()
    assert min(warmth[DUSK], warmth[NIGHT]) > 0.7
    assert max(warmth[0], warmth[DAY]) < 0.1


def test_new_textures_change_the_ground_gently():
    factors = scenes(32, label=4 * DAY + torch.arange(32) % 3)
    other = factors.replace(texture_seed=torch.arange(32))
    change = render(factors) - render(other)
    masks = detail_masks(factors)
    texture = masks["texture"] & detail_masks(other)["texture"]
    deviation = change.permute(0, 2, 3, 1)[texture].std() / 2**0.5
    assert 0.01 < deviation < 0.05
    assert change.permute(0, 2, 3, 1)[masks["sky"]].abs().max() < 0.05


def test_hidden_details_do_not_count():
    """A tree right before a window hides it."""
    factors = scenes(6, label=SNOW, house=True, tree_count=0)
    beside = detail_masks(factors)["windows"].sum()
    hidden = factors.replace(
        tree_count=1, tree_x=factors.house_x, tree_height=0.6, tree_depth=0.2
    )
    assert detail_masks(hidden)["windows"].sum() < 0.5 * beside


def test_trees_are_not_planted_in_open_water():
    factors = scenes(6, label=4 * DAY + SEA, tree_count=4, shore_side=-1.0)
    empty = render(factors.replace(tree_count=0))
    assert_close(render(factors.replace(tree_x=0.95)), empty, rtol=0, atol=0)
    assert not torch.equal(render(factors.replace(tree_x=0.1)), empty)


# --- what is wrong --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words", "call"),
    [
        (ValueError, "train, validation, test, not 'dev'", lambda: Landscapes("dev")),
        (ValueError, "length must not be negative", lambda: Landscapes(length=-1)),
        (IndexError, "image -1 of 5: .* 0 to 4", lambda: Landscapes(length=5)[-1]),
        (IndexError, "image 5 of 5", lambda: Landscapes(length=5).__getitems__([0, 5])),
        (ValueError, "multiple of 8.* not 60", lambda: render(scenes(1), 60)),
        (ValueError, "multiple of 8.* not 0", lambda: render(scenes(1), 0)),
        (ValueError, "0 ... 15, not 16", lambda: sample_factors(2, label=16)),
        (ValueError, "0 ... 15, not -3", lambda: sample_factors(1, label=-3)),
        (ValueError, "float", lambda: sample_factors(1, label=torch.tensor([1.5]))),
        (
            ValueError,
            r"2 of them.* \(3,\)",
            lambda: sample_factors(2, label=torch.zeros(3, dtype=torch.long)),
        ),
    ],
)
def test_errors_say_what_is_wanted_in_one_line(error, words, call):
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.gpu
def test_a_gpu_draws_the_same():
    factors = scenes(16, label=torch.arange(16))
    on_gpu = render(factors.to("cuda"))
    assert on_gpu.device.type == "cuda"
    assert_close(on_gpu.cpu(), render(factors), rtol=0, atol=1e-3)
