"""The moons of the plane: unit scale, and a denoiser of the shapes the course uses."""

import matplotlib.pyplot as plt
import pytest
import torch
from torch.testing import assert_close

from ldm_tutorial import NoiseSchedule, diffusion
from ldm_tutorial.teach import toy

pytestmark = pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")


def test_moons_have_about_unit_scale_and_two_parts():
    points = toy.two_moons(4000, torch.Generator().manual_seed(0))
    assert points.shape == (4000, 2, 1, 1)
    assert_close(points.mean(0).flatten(), torch.zeros(2), atol=0.1, rtol=0)
    assert_close(points.std(0).flatten(), torch.ones(2), atol=0.2, rtol=0)
    again = toy.two_moons(4000, torch.Generator().manual_seed(0))
    assert_close(again, points)


def test_a_short_training_learns_what_the_mean_knows():
    generator, schedule = torch.Generator().manual_seed(0), NoiseSchedule.linear()
    points = toy.two_moons(500, generator)
    torch.manual_seed(0)
    net = toy.PointDenoiser(32)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(60):
        loss = diffusion.diffusion_loss(net, schedule, points, generator=generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_arrows_point_to_the_data():
    """The exact denoiser of points that are all at the origin."""
    schedule = NoiseSchedule.linear()

    def exact(z, t):
        return z / (1 - schedule.at(t, like=z)).sqrt()

    plt.switch_backend("Agg")
    toy.show_arrows(exact, schedule, torch.zeros(3, 2, 1, 1), (300,))
    (axis,) = plt.gcf().axes
    quiver = axis.collections[-1]
    drawn = torch.as_tensor(quiver.U * quiver.X + quiver.V * quiver.Y)
    plt.close("all")
    assert (drawn <= 1e-6).all() and (drawn < 0).sum() == 168  # all but the middle
