"""The exercises: their checker accepts what is right however it is written, names what
is wrong, and never stands in the way of a blank notebook."""

import functools
import inspect
import random

import numpy as np
import pytest
import torch
from exercise_answers import RIGHT, WRONG

from ldm_tutorial import metrics, samplers
from ldm_tutorial.cost.efficiency import activation_bytes, count_flops
from ldm_tutorial.guidance import guided
from ldm_tutorial.layers import Attention, TimeEmbedding, conv3x3
from ldm_tutorial.teach import check, exercises, hint, progress, solution
from ldm_tutorial.teach.exercises import EXERCISES, NotRightYet
from ldm_tutorial.teach.ladder import judge

NAMES = list(EXERCISES)
MISTAKES = [(e.name, m) for e in EXERCISES.values() for m in e.misconceptions]


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nobody has done anything yet."""
    monkeypatch.delenv("LDM_TUTORIAL_CHECKS", raising=False)
    monkeypatch.delenv("LDM_TUTORIAL_PROGRESS", raising=False)
    exercises.reset()
    yield
    exercises.reset()


def own(function):
    """What a learner would write, as far as the checker can tell."""
    return lambda *args: function(*args)


def right(name):
    """A right answer of the learner's own."""
    return own(EXERCISES[name].reference)


def message(name, answer) -> str:
    with pytest.raises(NotRightYet) as caught:
        check(name, answer)
    return str(caught.value)


# What the course has


def test_there_are_enough_exercises_in_every_chapter():
    chapters = [exercise.chapter for exercise in EXERCISES.values()]
    assert len(EXERCISES) >= 24
    assert all(chapters.count(n) >= 6 for n in (1, 2, 3, 5))
    assert chapters.count(4) >= 5
    assert chapters == sorted(chapters)
    hard = [exercise.difficulty for exercise in EXERCISES.values()]
    assert all(hard.count(n) >= 10 for n in (1, 2, 3))


@pytest.mark.parametrize("name", NAMES)
def test_an_exercise_is_complete(name):
    exercise = EXERCISES[name]
    assert len(exercise.hints) == 3 and len(exercise.misconceptions) >= 4
    assert len(RIGHT[name]) >= 2
    assert exercise.title and exercise.prompt.endswith((".", "?", ".)"))
    assert not any(text.endswith(".") for _, text in exercise.misconceptions.values())


# Blank, right, wrong


@pytest.mark.parametrize("name", NAMES)
def test_the_cell_as_it_ships_is_not_attempted_and_gets_the_reference(name, capsys):
    space = {"check": check}
    exec(exercises.starter(name), space)
    said = capsys.readouterr().out
    assert space[EXERCISES[name].function] is EXERCISES[name].reference
    assert said.startswith(f"○ {name}: not attempted yet") and said.count("\n") == 1
    assert f'hint("{name}")' in said
    assert progress().rows[NAMES.index(name)].status == "blank"


def docstring_only(mu, logvar):
    """To be done."""


def unfinished_line(mu, logvar):
    variance = ...
    return 0.5 * (mu**2 + variance - 1 - logvar)


def not_implemented(mu, logvar):
    raise NotImplementedError("your turn")


@torch.no_grad()
def decorated(mu, logvar):
    pass


@pytest.mark.parametrize(
    "blank",
    [
        docstring_only,
        unfinished_line,
        not_implemented,
        decorated,
        lambda mu, logvar: None,
        lambda mu, logvar: ...,
        lambda mu, logvar: NotImplemented,
        None,
        ...,
    ],
)
def test_blanks_of_every_kind_are_not_attempted(blank):
    assert check("kl", blank) is EXERCISES["kl"].reference
    (row,) = (row for row in progress().rows if row.name == "kl")
    assert (row.status, row.attempts) == ("blank", 0)


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_is_right_when_a_learner_has_written_it(name):
    answer = right(name)
    assert check(name, answer) is answer


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("kl", EXERCISES["kl"].reference),
        ("psnr", metrics.psnr),
        ("psnr", functools.partial(metrics.psnr)),
        ("psnr", torch.no_grad()(metrics.psnr)),
        ("ddpm_step", samplers.ddpm_step),
        ("add_noise", EXERCISES["psnr"].reference),
    ],
)
def test_a_function_of_the_library_is_no_answer(name, function, capsys):
    """The stand-in for a blank, checked again, neither."""
    assert check(name, function) is EXERCISES[name].reference
    assert "the library's own function" in capsys.readouterr().out
    (row,) = (row for row in progress().rows if row.name == name)
    assert (row.status, row.attempts) == ("blank", 0)


@pytest.mark.parametrize("name", NAMES)
def test_right_answers_are_given_back_however_they_are_written(name, capsys):
    for answer in RIGHT[name]:
        given = check(name, answer)
        careful = judge(EXERCISES[name], answer).changed
        assert (given.__wrapped__ if careful else given) is answer
        assert capsys.readouterr().out.startswith(f"✓ {name}: right.")


def test_an_answer_that_writes_over_its_arguments_is_handed_copies(capsys):
    def normalise(raw, mean, std):
        return raw.sub_(mean.view(-1, 1, 1)).div_(std.view(-1, 1, 1))

    given = check("normalise", normalise)
    assert "writes over its argument raw, so the chapter hands it a copy" in (
        capsys.readouterr().out
    )
    raw, mean, std = torch.ones(1, 2, 3, 3), torch.zeros(2), torch.full((2,), 2.0)
    torch.testing.assert_close(given(raw, mean, std), torch.full((1, 2, 3, 3), 0.5))
    torch.testing.assert_close(raw, torch.ones(1, 2, 3, 3))


@pytest.mark.parametrize(("name", "misconception"), MISTAKES)
def test_a_misconception_is_named_in_three_lines(name, misconception):
    mistaken, sentence = EXERCISES[name].misconceptions[misconception]
    verdict = judge(EXERCISES[name], own(mistaken))
    assert verdict.status == "wrong"
    assert (verdict.misconception, verdict.headline) == (misconception, sentence)
    lines = exercises.diagnosis(EXERCISES[name], verdict).splitlines()
    assert len(lines) == 3 and max(map(len, lines)) < 240


@pytest.mark.parametrize("name", WRONG)
def test_other_wrong_answers_are_told_what_is_wrong(name):
    for answer, words in WRONG[name]:
        assert words in message(name, answer)


def zeros(value):
    if isinstance(value, tuple):
        return tuple(zeros(part) for part in value)
    return torch.zeros_like(value) if isinstance(value, torch.Tensor) else 0.0


def another_shape(value):
    if isinstance(value, tuple):
        return tuple(another_shape(part) for part in value)
    return torch.as_tensor(value).repeat(3, 1)[..., None]


def broken(*_):
    raise RuntimeError("it broke")


@pytest.mark.parametrize("name", NAMES)
def test_trivial_answers_are_wrong(name):
    reference = EXERCISES[name].reference
    trivial = {
        "zeros": lambda *args: zeros(reference(*args)),
        "the input": lambda *args: args[0],
        "nothing": lambda *args: [].append(args),
        "another shape": lambda *args: another_shape(reference(*args)),
        "an exception": broken,
    }
    for kind, answer in trivial.items():
        assert judge(EXERCISES[name], own(answer)).status == "wrong", kind


# What is said


def test_a_wrong_answer_gets_three_lines_with_the_case_and_the_cause():
    half_missing = EXERCISES["kl"].misconceptions["half missing"][0]
    assert message("kl", half_missing).splitlines() == [
        "✗ kl: the factor ½ is missing.",
        "  With mu = 2, logvar = 0: 2 is expected and 4 came.",
        '  Change it and run this cell again; hint("kl") gives a step.',
    ]


def test_an_exception_is_shown_with_the_line_that_raised_it():
    def answer(mu, logvar):
        sigma = logvar.exp() ** 0.5
        return mu + sigmma * sigma  # noqa: F821

    text = message("kl", answer)
    assert "NameError: name 'sigmma' is not defined" in text
    assert "in the line: return mu + sigmma * sigma" in text


def test_a_right_answer_that_writes_over_its_input_is_told_so(capsys):
    check("kl", RIGHT["kl"][0])
    assert "it writes over its argument mu" in capsys.readouterr().out


def test_softened_a_wrong_answer_is_told_and_the_reference_stands_in(
    monkeypatch, capsys
):
    monkeypatch.setenv("LDM_TUTORIAL_CHECKS", "soft")
    kl = check("kl", lambda mu, logvar: mu)
    assert kl is EXERCISES["kl"].reference
    said = capsys.readouterr().out
    assert said.startswith("✗ kl: it returns mu as it came.") and "library" in said


def test_ipython_shows_the_message_and_no_stack(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)  # it warns of another one
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    config = Config({"HistoryManager": {"enabled": False}})
    shell = InteractiveShell(config=config)
    shell.user_ns["check"] = check
    result = shell.run_cell('check("kl", lambda mu, logvar: mu)')
    assert isinstance(result.error_in_exec, NotRightYet)
    said = capsys.readouterr().out
    assert "✗ kl: it returns mu as it came." in said
    assert "Traceback" not in said and len(said.strip().splitlines()) == 3


def test_checking_leaves_the_random_numbers_of_the_notebook_alone():
    def states():
        numpy = np.random.get_state()  # noqa: NPY002
        return torch.get_rng_state().tolist(), random.getstate(), numpy[1].tolist()

    before = states()
    for name in ("ddpm_step", "class_dropout", "kl"):
        for answer in (right(name), *RIGHT[name]):
            check(name, answer)
    assert states() == before


@pytest.mark.parametrize("name", NAMES)
def test_the_second_right_answer_leaves_its_arguments_alone(name):
    assert judge(EXERCISES[name], RIGHT[name][1]).changed == ()


def test_the_same_answer_gets_the_same_words_twice():
    for name in ("ddpm_step", "add_noise"):
        mistaken = next(iter(EXERCISES[name].misconceptions.values()))[0]
        assert message(name, mistaken) == message(name, mistaken)


@pytest.mark.parametrize(
    ("name", "guess"),
    [
        ("kll", r"did you mean 'kl'"),
        ("PSNR", r"did you mean 'psnr'"),
        ("kl_to_standard_normal", r"did you mean 'kl'"),
        ("ddim", r"'ddim_step'"),
        ("xyzzy", r"progress\(\) lists them all"),
        (metrics.psnr, r"the name of the exercise comes first"),
    ],
)
def test_an_unknown_name_is_refused_in_one_line(name, guess):
    for call in (lambda: check(name, None), lambda: hint(name), lambda: solution(name)):
        with pytest.raises(ValueError, match=guess) as caught:
            call()
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 120


# Hints, solutions


def test_hints_come_one_at_a_time_and_the_last_one_stays(capsys):
    for step in (1, 2, 3, 3):
        hint("psnr")
        said = capsys.readouterr().out
        assert said.startswith(f"Hint {step} of 3: ")
        assert EXERCISES["psnr"].hints[step - 1] in said
        assert ('solution("psnr")' in said) == (step == 3)


@pytest.mark.parametrize("name", NAMES)
def test_the_solution_is_the_source_that_runs_and_is_folded(name):
    text = exercises.solution_markdown(name)
    exercise = EXERCISES[name]
    assert text.startswith("<details><summary>") and text.endswith("</details>")
    assert text.count("```") == 2
    for shown in exercise.source or (exercise.reference,):
        assert inspect.cleandoc(inspect.getsource(shown).split("\n")[0]) in text
    assert solution(name)._repr_markdown_() == text
    assert f"# {(exercise.source or (exercise.reference,))[0].__module__}" in text


# References that the library does not hold as a function of their own


def test_the_posterior_is_what_the_library_draws_from():
    z_t, x0 = torch.randn(2, 3, 1, 2, 2)
    a_t, a_s = torch.tensor(0.3), torch.tensor(0.5)
    mean, variance = EXERCISES["posterior"].reference(z_t, x0, a_t, a_s)
    one = samplers.ddpm_step(z_t, x0, a_t, a_s, torch.Generator().manual_seed(1))
    noise = torch.randn(z_t.shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(mean + variance.sqrt() * noise, one)


def test_the_guidance_is_what_the_library_samples_with():
    class Net:
        def __call__(self, z_t, t, y):
            return z_t * (y.view(-1, 1, 1, 1) + 1)

    z, t, y = torch.randn(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64), torch.ones(2)
    y = y.long()
    cond, uncond = Net()(z, t, y), Net()(z, t, torch.full_like(y, 5))
    torch.testing.assert_close(
        guided(Net(), y, 3.0, no_class=5)(z, t),
        EXERCISES["guidance"].reference(cond, uncond, 3.0),
    )


def test_the_time_embedding_is_what_the_library_computes():
    layer = TimeEmbedding(8, frequencies=16)
    t = torch.tensor([0, 7, 900])
    waves = EXERCISES["time_embedding"].reference(t, 16)
    torch.testing.assert_close(layer.mlp(waves), layer(t), atol=1e-3, rtol=1e-3)


def test_the_recall_is_what_the_library_reports():
    x, noise = torch.randn(2, 2, 3, 32, 32)
    x_hat = 0.5 * x + 0.1 * noise
    mask = torch.rand(2, 32, 32) > 0.5
    h_hat, h = metrics.high_pass(x_hat), metrics.high_pass(x)
    wanted = metrics.detail_recall(x_hat, x, {"dots": mask})["dots"]
    assert EXERCISES["recall"].reference(h_hat, h, mask) == pytest.approx(wanted)


def test_counts_by_hand_are_what_the_counters_find():
    conv = EXERCISES["conv_flops"].reference
    assert conv(8, 4, 6, 3) == count_flops(
        lambda: conv3x3(8, 4)(torch.ones(1, 8, 6, 6))
    )
    found = count_flops(lambda: Attention(32)(torch.ones(1, 32, 4, 4)))
    assert EXERCISES["attention_flops"].reference(32, 16) == found
    chain = torch.nn.Sequential(*(conv3x3(4, 4) for _ in range(3)))
    x = torch.ones(2, 4, 8, 8, requires_grad=True)
    assert EXERCISES["activations"].reference(2, 4, 8, 3, 4) == activation_bytes(
        chain, x
    )


def test_break_even_is_where_both_have_spent_the_same():
    costs = {"autoencoder": 300.0, "encode": 0.2, "images": 1000}
    n = EXERCISES["break_even"].reference(**costs, pixel=2.0, latent=0.5)
    assert 2.0 * n == pytest.approx(300 + 0.2 * 1000 + 0.5 * n)


def test_free_bits_pull_at_no_element_below_the_allowance():
    kl = torch.tensor([[0.1, 1.0], [0.2, 3.0]], requires_grad=True)
    EXERCISES["free_bits"].reference(kl, 0.5).backward()
    torch.testing.assert_close(kl.grad, torch.tensor([[0.0, 0.25], [0.0, 0.25]]))
