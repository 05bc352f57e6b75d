"""Each symbol has one meaning, and the page of notation says which."""

import re

import make_notebooks as maker
import pytest

ROW = re.compile(r"^\| (\$.+?\$(?:, \$.+?\$)*) \|", re.M)
GREEK = "alpha beta gamma delta Delta varepsilon eta theta kappa lambda mu nu rho sigma"
GREEK += (
    " Sigma tau phi varphi psi omega Omega xi chi zeta Gamma Theta Psi Phi varnothing"
)
# Shapes, which the page explains above its tables; the e of exp, the d of integrals;
# running indices; E for an expectation, N for a Gaussian, I for the identity.
FREE = set("HWBdeijlIEN")


def letters(formula):
    """The letters of a formula, Latin and Greek, without what stands below or above
    them, and without their hats and bars."""
    text = re.sub(r"\\(?:text|mathrm|begin|end|tag)(?:\{[^}]*\}|\s\w)", " ", formula)
    text = re.sub(r"[_^](\{[^{}]*\}|\\?\w+|\*)", " ", text)
    macros = re.findall(r"\\([A-Za-z]+)", text)
    latin = re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", text))
    return set(latin) | {one for one in macros if one in GREEK.split()}


def symbols():
    page = (maker.BOOK / "notation.md").read_text("utf8")
    return [one for row in ROW.findall(page) for one in re.findall(r"\$(.+?)\$", row)]


def test_no_symbol_is_listed_twice():
    listed = symbols()
    assert len(listed) > 60
    twice = {one for one in listed if listed.count(one) > 1}
    assert not twice, twice


@pytest.mark.parametrize("name", maker.chapters())
def test_every_letter_of_a_numbered_equation_is_listed(name):
    text = maker.sources()[name].read_text("utf8")
    known = set().union(*(letters(one) for one in symbols())) | FREE
    for formula in re.findall(r"\$\$(.+?)\$\$", text, flags=re.S):
        if "\\tag{" in formula:
            strange = letters(formula) - known
            assert not strange, f"{strange} in {formula}"
