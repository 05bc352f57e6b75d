"""The checker stays on its feet, whatever it is given, and blames what is to blame."""

import contextlib
import functools
import threading
import time
from dataclasses import replace

import pytest
import torch

from ldm_tutorial.teach import check
from ldm_tutorial.teach.exercises import EXERCISES, NotRightYet
from ldm_tutorial.teach.guard import OutOfTime, limited, seeded
from ldm_tutorial.teach.ladder import judge

KL = EXERCISES["kl"]


@pytest.fixture(autouse=True)
def strict(monkeypatch):
    monkeypatch.delenv("LDM_TUTORIAL_CHECKS", raising=False)
    monkeypatch.delenv("LDM_TUTORIAL_PROGRESS", raising=False)


class Evil:
    """Raises wherever it is asked."""

    def __float__(self):
        raise RuntimeError("no number")

    def __len__(self):
        raise RuntimeError("no length")

    def __eq__(self, other):
        raise RuntimeError("no equal")

    def __getattr__(self, name):
        raise AttributeError(name)


class Loud(Exception):
    def __str__(self):
        raise RuntimeError("no text")


def raising(error):
    def answer(*args):
        raise error

    return answer


def itself(*args):
    return itself(*args)


looped = lambda *args: 0  # noqa: E731
looped.__wrapped__ = looped

RESULTS = {
    "an object that raises": lambda *a: Evil(),
    "a list that holds itself": lambda *a: (x := [], x.append(x), x)[-1],
    "many numbers": lambda *a: list(range(20_000)),
    "words": lambda *a: "a tensor",
    "bytes": lambda *a: b"123",
    "an empty tuple": lambda *a: (),
    "an empty tensor": lambda *a: torch.zeros(0),
    "a nested tensor": lambda *a: torch.nested.nested_tensor([torch.ones(2)]),
    "a dictionary": lambda *a: {},
    "a function": lambda *a: print,
    "a class": lambda *a: int,
    "true": lambda *a: True,
    "a complex number": lambda *a: 1j,
    "no text in the error": raising(Loud()),
    "an error without arguments": raising(RuntimeError()),
    "an error of many lines": raising(ValueError("\n".join("abc" * 99))),
    "the end of Python": raising(SystemExit(1)),
    "no end of calls": itself,
    "no memory": raising(MemoryError()),
    "wrapped in itself": looped,
}


@pytest.mark.parametrize("what", RESULTS)
@pytest.mark.parametrize("name", ["psnr", "compression", "posterior", "class_dropout"])
def test_no_answer_breaks_the_checker(name, what):
    answer = functools.partial(RESULTS[what])
    assert judge(EXERCISES[name], answer).status == "wrong"
    with pytest.raises(NotRightYet) as caught:
        check(name, answer)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("given", [3, "kl", [], torch.zeros(3), Evil(), int, object()])
def test_what_is_no_function_is_refused(given):
    assert judge(KL, given).status == "wrong"


def test_soft_mode_breaks_on_no_answer_either(monkeypatch, capsys):
    monkeypatch.setenv("LDM_TUTORIAL_CHECKS", "soft")
    all_hidden = lambda y, share, none: torch.tensor(none)  # noqa: E731
    for answer in (all_hidden, lambda y, share, none: y.tolist()):
        given = check("class_dropout", answer)
        assert given is EXERCISES["class_dropout"].reference
    assert capsys.readouterr().out.count("✗ class_dropout") == 2


# Time


def for_ever(mu, logvar):
    while True:
        with contextlib.suppress(Exception):
            time.sleep(0.001)


def test_an_endless_loop_ends():
    began = time.monotonic()
    verdict = judge(replace(KL, seconds=0.1), for_ever)
    assert time.monotonic() - began < 5
    assert verdict.status == "wrong" and "0.1 seconds" in verdict.headline


def test_an_endless_loop_ends_outside_the_main_thread():
    """Where no signal can arrive."""
    found = []

    def spin(mu, logvar):
        while True:
            pass

    task = lambda: found.append(judge(replace(KL, seconds=0.1), spin))  # noqa: E731
    thread = threading.Thread(target=task)
    thread.start()
    thread.join(20)
    assert found and found[0].rung == "runs" and "0.1 seconds" in found[0].headline


def test_the_limit_is_lifted_afterwards():
    with limited(0.05):
        pass
    time.sleep(0.1)
    with pytest.raises(OutOfTime), limited(0.05):
        time.sleep(5)


def test_a_key_pressed_by_the_learner_gets_through():
    with pytest.raises(KeyboardInterrupt):
        judge(KL, raising(KeyboardInterrupt()))


def test_what_is_called_keeps_its_hands_off_the_notebook():
    dtype, state = torch.get_default_dtype(), torch.get_rng_state()
    with seeded():
        torch.manual_seed(5)
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
    assert torch.get_default_dtype() == dtype and torch.is_grad_enabled()
    torch.testing.assert_close(torch.get_rng_state(), state)


# Blame


def blamed(name, answer):
    with pytest.raises(NotRightYet) as caught:
        check(name, answer)
    return str(caught.value)


def with_names(code, **names):
    exec(code, names)
    return names["answer"]


DDPM = """
def answer(z_t, x0, alpha_bar_t, alpha_bar_s, generator=None):
    mean, variance = posterior(z_t, x0, alpha_bar_t, alpha_bar_s)
    return mean + variance.sqrt() * torch.randn(z_t.shape, generator=generator)
"""


def test_a_wrong_helper_is_blamed_and_not_the_answer():
    wrong = EXERCISES["posterior"].misconceptions["roles exchanged"][0]
    text = blamed("ddpm_step", with_names(DDPM, torch=torch, posterior=wrong))
    assert "it calls your posterior, and that is not right yet" in text
    assert 'check("posterior", posterior)' in text
    right = lambda *a: EXERCISES["posterior"].reference(*a)  # noqa: E731
    answer = with_names(DDPM, torch=torch, posterior=right)
    assert check("ddpm_step", answer) is answer


def test_a_missing_helper_is_told_where_to_come_from():
    text = blamed("ddpm_step", with_names(DDPM, torch=torch))
    assert "posterior is missing: run the cell of that exercise first" in text


def test_a_plain_number_as_time_is_explained():
    def answer(denoiser, schedule, z_T, steps):
        for t in schedule.timesteps(steps):
            denoiser(z_T, t)
        return z_T

    assert "torch.full((len(z),), t)" in blamed("sampler", answer)


def test_a_dimension_that_is_not_there_comes_with_the_shapes():
    text = blamed("kl", lambda mu, logvar: (mu**2 + logvar).sum((1, 2, 3)))
    assert "inputs may have fewer of them" in text and "mu (1,)" in text


def test_numpy_is_not_recommended():
    import numpy as np

    def answer(mu, logvar):
        variance = torch.from_numpy(np.exp(logvar.numpy()))
        return 0.5 * (mu**2 + variance - 1 - logvar)

    text = blamed("kl", answer)
    assert "torch.exp for np.exp" in text


def test_a_missing_retain_graph_is_named():
    def answer(nll, g_loss, layer):
        (a,) = torch.autograd.grad(nll, layer, retain_graph=True)
        (b,) = torch.autograd.grad(g_loss, layer)
        return (a.norm() / (b.norm() + 1e-4)).detach()

    assert "retain_graph=True keeps it" in blamed("adaptive_weight", answer)


def test_a_required_argument_that_is_optional_is_named():
    def answer(t, dim, max_period):
        return EXERCISES["time_embedding"].reference(t, dim, max_period)

    assert "without max_period=10000.0 as well" in blamed("time_embedding", answer)


def test_arguments_by_name_only_are_told_to_come_by_position():
    def answer(*, mu, logvar):
        return mu + logvar

    assert "by position; yours takes (*, mu, logvar)" in blamed("kl", answer)


def test_both_ends_of_a_long_error_are_kept():
    text = blamed("kl", raising(ValueError("begin " + "so " * 300 + "do this")))
    assert "begin" in text and "do this" in text


def test_a_comma_at_the_end_is_found():
    text = blamed("psnr", lambda x_hat, x: ((x_hat - x).mean((1, 2, 3)),))
    assert "wrapped in a tuple" in text and "comma" in text
