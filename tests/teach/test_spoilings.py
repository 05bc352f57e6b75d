"""Right answers, spoilt mechanically: rejected by the checker, or harmless."""

import pytest
from spoilings import SPOILINGS, harmless

from ldm_tutorial.teach.ladder import judge
from ldm_tutorial.teach.tasks import EXERCISES


@pytest.mark.parametrize("spoiling", SPOILINGS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", EXERCISES)
def test_a_spoilt_answer_is_rejected_unless_it_is_harmless(name, spoiling):
    exercise = EXERCISES[name]
    for what, answer in spoiling(exercise):
        verdict = judge(exercise, answer)
        expected = "right" if harmless(exercise, spoiling, what) else "wrong"
        assert verdict.status == expected, (what, verdict)
        assert verdict.rung != "checker", verdict
