"""What looking at proofs came to is counted once: when it is settled, or when asking was in vain."""

from __future__ import annotations

import pytest

from shared.outcome import Parked, Tried, TryLater
from tests.support.metrics import counting
from verifier.tasks import counted_unless_answered

VERIFICATIONS = "purser_verifications_total"


@pytest.mark.parametrize(("error", "outcome"), [(TryLater("busy"), "later"), (Parked("ours to mend"), "parked")])
def test_what_was_asked_in_vain_is_counted_by_what_is_to_happen(error: Exception, outcome: str) -> None:
    count = counting(VERIFICATIONS, outcome=outcome, code="")

    def ask(_event: object, _before: Tried) -> None:
        raise error

    with pytest.raises(type(error)):
        counted_unless_answered(ask)(None, Tried())
    assert count.so_far == 1


def test_an_answer_is_not_counted_before_it_is_settled() -> None:
    counts = [counting(VERIFICATIONS, outcome=outcome, code="") for outcome in ("verified", "later", "parked")]
    assert counted_unless_answered(lambda _event, _before: "an answer")(None, Tried()) == "an answer"
    assert [count.so_far for count in counts] == [0, 0, 0]
