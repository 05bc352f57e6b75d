"""The exercise on the training loop: what happens in which order is watched."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ldm_tutorial.teach.task import Case, Exercise
from ldm_tutorial.teach.tasks.inputs import randn


def train(
    model: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    batch_loss: Callable[[nn.Module], Tensor],
    steps: int,
    decay: float,
) -> Tensor:
    """Train ``model`` in place, and ``average`` as the moving average of its weights;
    returns the loss of each step, (steps,)."""
    losses = []
    for _ in range(steps):
        loss = batch_loss(model)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for a, p in zip(average.parameters(), model.parameters(), strict=True):
                a.lerp_(p, 1 - decay)
        losses.append(loss.detach())
    return torch.stack(losses)


class Watched(torch.optim.SGD):
    """An optimiser that writes down what is asked of it."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.events: list[str] = []

    def zero_grad(self, *args, **kwargs):
        self.note("zero_grad")
        super().zero_grad(*args, **kwargs)

    def step(self, *args, **kwargs):
        self.note("step")
        return super().step(*args, **kwargs)

    def note(self, event: str) -> None:
        if hasattr(self, "events"):
            self.events.append(event)


def network(seed: int) -> nn.Module:
    """A small network from 2 numbers to 2, the same for a seed on every machine."""
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(0.5 * randn(100 * seed + i, *p.shape))
    return net


class Batches:
    """The loss of one batch after the other: a turn of the plane is to be learned."""

    def __init__(self, seed: int, events: list[str]):
        self.generator = torch.Generator().manual_seed(seed)
        self.events = events

    def __call__(self, model: nn.Module) -> Tensor:
        x = torch.randn(32, 2, generator=self.generator)
        self.events.append("loss")
        loss = (model(x) - torch.stack([-x[:, 1], x[:, 0]], 1)).square().mean()
        if loss.requires_grad:
            loss.register_hook(lambda grad: self.events.append("backward"))
        return loss


def task(seed: int, steps: int, decay: float, rate: float = 0.3):
    def make():
        model = network(seed)
        average = copy.deepcopy(model)
        optimizer = Watched(model.parameters(), lr=rate, momentum=0.5)
        batches = Batches(seed, optimizer.events)
        return model, average, optimizer, batches, steps, decay

    return make


def order(f) -> bool:
    """Each step: loss, backward, step, and the gradients emptied before backward."""
    args = task(3, 4, 0.9)()
    f(*args)
    seen = [e for e in args[2].events if e != "zero_grad"]
    return seen == ["loss", "backward", "step"] * 4


def weights_after(f, seed: int, decay: float) -> tuple[list[Tensor], list[Tensor]]:
    args = task(seed, 5, decay)()
    f(*args)
    a, b = ([p.detach() for p in net.parameters()] for net in args[:2])
    return a, b


def agree(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.allclose(x, y, atol=1e-5) for x, y in zip(a, b, strict=True))


def weights_right(f) -> bool:
    return agree(weights_after(f, 4, 0.7)[0], weights_after(train, 4, 0.7)[0])


def averages_right(f) -> bool | str:
    tries = ((4, 0.7), (5, 0.98))
    came = [weights_after(f, s, d)[1] for s, d in tries]

    def like(other) -> bool:
        wanted = (weights_after(other, s, d)[1] for s, d in tries)
        return all(agree(a, b) for a, b in zip(came, wanted, strict=True))

    if like(train):
        return True
    return next((words for other, words in AVERAGES if like(other)), False)


def averaged(
    shares=lambda decay: (decay, 1 - decay), when: str = "after every step"
) -> Callable:
    """The loop with another average: other shares, or at other moments."""

    def f(model, average, optimizer, batch_loss, steps, decay):
        def follow():
            old, new = shares(decay)
            with torch.no_grad():
                for a, p in zip(average.parameters(), model.parameters(), strict=True):
                    a.copy_(old * a + new * p)

        for i in range(steps):
            loss = batch_loss(model)
            optimizer.zero_grad()
            loss.backward()
            if when == "before the step":
                follow()
            optimizer.step()
            last = when == "at the end" and i + 1 == steps
            if when == "after every step" or last:
                follow()

    return f


AVERAGES = (
    (
        averaged(when="never"),
        "the average never moves: a = ... only gives a name to something new; "
        "a.copy_(...) writes into the parameter",
    ),
    (
        averaged(lambda decay: (1 - decay, decay)),
        "the shares are exchanged: `decay` is the share of the old average",
    ),
    (
        averaged(when="at the end"),
        "the average moves only once, at the end; it should after every step",
    ),
    (
        averaged(when="before the step"),
        "the average moves before the step, so it is always one step behind",
    ),
    (averaged(lambda decay: (0, 1)), "the average is a mere copy of the model"),
    (
        averaged(lambda decay: (1, 1 - decay)),
        "the old average needs the share `decay`; so it grows without bound",
    ),
)


def falls(f) -> bool:
    losses = f(*task(6, 60, 0.9)()).detach()
    return float(losses[-10:].mean()) < 0.3 * float(losses[:3].mean())


def lets_go(f) -> bool:
    return not f(*task(3, 3, 0.9)()).requires_grad


def average_is_free(f) -> bool:
    """The average has no graph and still belongs to itself."""
    args = task(3, 3, 0.9)()
    f(*args)
    own = {p.data_ptr() for p in args[0].parameters()}
    leaves = [p.is_leaf and p.grad_fn is None for p in args[1].parameters()]
    return all(leaves) and not own & {p.data_ptr() for p in args[1].parameters()}


def loop_slip(kind: str):
    def f(model, average, optimizer, batch_loss, steps, decay):
        losses = []
        for _ in range(steps):
            loss = batch_loss(model)
            if kind != "never emptied":
                optimizer.zero_grad()
            loss.backward()
            if kind != "no step":
                optimizer.step()
            if kind == "two batches":
                loss = batch_loss(model)
            losses.append(loss.detach())
        if kind == "last loss":
            return losses[-1]
        return torch.stack(losses).mean() if kind == "mean" else torch.stack(losses)

    return f


TRAIN = Exercise(
    name="train",
    chapter=3,
    difficulty=3,
    trains="the training loop: four calls in the right order, and an average",
    title="a training loop",
    prompt=(
        "Write the loop. `batch_loss(model)` draws a batch and returns its loss; "
        "`optimizer` holds the parameters of `model`. Take `steps` steps. After each "
        "of them move the parameters of `average`, a copy of the model, as your "
        "`ema_update` does: a share `decay` of the old average and the rest of the new "
        "weights. Train `model` and `average` in place, and return the loss of every "
        "step as a tensor of shape (`steps`,) that holds on to no graph."
    ),
    reference=train,
    lines="9-11 lines",
    cases=(
        Case(
            task(1, 1, 0.9),
            note="a network of 42 weights, one step",
        ),
        Case(task(2, 8, 0.9), note="a network of 42 weights, 8 steps", rtol=1e-3),
        Case(
            task(5, 12, 0.5, rate=0.1),
            note="a network of 42 weights, 12 steps at another rate",
            rtol=1e-3,
        ),
    ),
    properties=(
        (
            "Each step should ask for a loss, run backward and then step, in this "
            "order.",
            order,
        ),
        ("The model should end with the weights of so many steps.", weights_right),
        (
            "`average` should follow after every step: decay · average + (1 - decay) · "
            "weights, in place.",
            averages_right,
        ),
        ("The loss should fall.", falls),
        (
            "The losses should hold on to no graph, or the memory of every step is "
            "kept: .detach() or .item().",
            lets_go,
        ),
        (
            "`average` should keep parameters of its own, without a graph: write into "
            "them under torch.no_grad().",
            average_is_free,
        ),
    ),
    changes=("model", "average", "optimizer"),
    hints=(
        "A step asks for the loss, empties the gradients, runs backward, steps. "
        "Emptying may come anywhere but between backward and step.",
        "model.parameters() and average.parameters() come in one order: zip them. "
        "Under torch.no_grad(), a.copy_(...) writes into a parameter.",
        "Collect loss.detach() in a list. torch.stack makes a tensor of the list.",
    ),
    misconceptions={
        "never emptied": (
            loop_slip("never emptied"),
            "the gradients pile up from step to step: optimizer.zero_grad() is missing",
        ),
        "nothing learned": (
            loop_slip("no step"),
            "the weights never move: optimizer.step() is missing, comes before "
            "backward, or the gradients were emptied in between",
        ),
        "two batches a step": (
            loop_slip("two batches"),
            "batch_loss was asked twice in a step: record the loss that was learned "
            "from",
        ),
        "mean loss": (
            loop_slip("mean"),
            "the losses were averaged; the loss of every step is asked for",
        ),
        "last loss": (
            loop_slip("last loss"),
            "only the last loss came back; the loss of every step is asked for",
        ),
    },
)
