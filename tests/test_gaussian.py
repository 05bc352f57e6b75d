import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from ldm_tutorial.gaussian import DiagonalGaussian
from ldm_tutorial.noise import generators, normal_like


@pytest.fixture
def posterior():
    torch.manual_seed(0)
    return DiagonalGaussian(torch.randn(5, 4, 3, 3) * 2, torch.randn(5, 4, 3, 3))


def as_torch(q):
    return Normal(q.mu.double(), q.std.double())


def test_kl_is_that_of_torch_distributions(posterior):
    unit = Normal(torch.tensor(0.0).double(), torch.tensor(1.0).double())
    wanted = kl_divergence(as_torch(posterior), unit)
    assert_close(posterior.kl().double(), wanted, atol=1e-6, rtol=1e-6)


def test_kl_of_the_prior_is_zero_and_of_a_shift_half_its_square():
    zero = torch.zeros(1, 3)
    assert_close(DiagonalGaussian(zero, zero).kl(), zero)
    assert_close(DiagonalGaussian(zero + 2, zero).kl(), zero + 2)


def test_nll_is_that_of_torch_distributions(posterior):
    z = torch.randn(5, 4, 3, 3)
    wanted = -as_torch(posterior).log_prob(z.double())
    assert_close(posterior.nll(z).double(), wanted, atol=1e-5, rtol=1e-5)


def test_samples_have_the_mean_and_the_spread():
    q = DiagonalGaussian(torch.full((200_000,), 3.0), torch.full((200_000,), -1.0))
    z = q.sample(torch.Generator().manual_seed(0))
    assert_close(z.mean(), torch.tensor(3.0), atol=0.01, rtol=0)
    assert_close(z.var(), torch.exp(torch.tensor(-1.0)), atol=0.01, rtol=0)


def test_a_generator_fixes_the_sample(posterior):
    one, two = (posterior.sample(torch.Generator().manual_seed(7)) for _ in range(2))
    assert_close(one, two, atol=0, rtol=0)


def test_a_sample_is_the_mean_and_the_noise_at_its_spread(posterior):
    g, same = (torch.Generator().manual_seed(7) for _ in range(2))
    wanted = posterior.mu + posterior.std * normal_like(posterior.mu, same)
    assert torch.equal(posterior.sample(g), wanted)


def test_gradients_reach_mean_and_logvar():
    mu = torch.zeros(3, requires_grad=True)
    logvar = torch.zeros(3, requires_grad=True)
    DiagonalGaussian(mu, logvar).sample().sum().backward()
    assert_close(mu.grad, torch.ones(3))
    assert bool((logvar.grad != 0).all())


def test_an_extreme_logvar_stays_finite():
    q = DiagonalGaussian(torch.zeros(2), torch.tensor([-1e6, 1e6]))
    assert q.logvar.tolist() == [-30, 20]
    assert bool(torch.isfinite(q.kl()).all() & torch.isfinite(q.sample()).all())


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match="same shape"):
        DiagonalGaussian(torch.zeros(2), torch.zeros(3))


def test_noise_takes_the_dtype_of_its_model():
    assert normal_like(torch.zeros(3, dtype=torch.float64)).dtype == torch.float64


def test_a_list_of_generators_makes_rows_independent_of_their_batch():
    x = torch.empty(5, 4, 8, 8)
    many = normal_like(x, generators(3, 5))
    one = normal_like(x[:1], generators(3, 1, start=4))
    assert_close(one, many[4:], atol=0, rtol=0)
    assert not torch.equal(many[0], many[1])
    assert not torch.equal(many, normal_like(x, generators(4, 5)))


def test_image_i_of_a_seed_does_not_depend_on_how_many_are_drawn():
    few, many = generators(0, 7), generators(0, 1000)
    drawn = [[g.initial_seed() for g in part] for part in (few, many[:7])]
    assert drawn[0] == drawn[1]
    assert len({g.initial_seed() for g in many}) == 1000


def test_as_many_generators_as_rows():
    with pytest.raises(ValueError, match="2 generators were given for 3 rows"):
        normal_like(torch.empty(3, 4), generators(0, 2))


def test_a_likelihood_of_other_shapes_is_refused():
    q = DiagonalGaussian(torch.zeros(2, 4, 2, 2), torch.zeros(2, 4, 2, 2))
    with pytest.raises(ValueError, match=r"z .*\(1, 4, 2, 2\)"):
        q.nll(torch.zeros(1, 4, 2, 2))
