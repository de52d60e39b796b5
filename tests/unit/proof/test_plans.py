"""What a seed plans: the same each time, all kinds of it, and in equal shares."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import pytest

from tests.proof import faults, stories
from tests.proof.faults import Kind
from tests.proof.stories import Proof, Refund, Repeat, Spending, Story

STORIES = 3_000


def test_a_seed_plans_the_same_stories_and_faults_each_time_and_another_seed_others() -> None:
    def planned(seed: int) -> tuple[object, object]:
        return stories.plan(seed=seed, purchases=200), faults.plan(seed=seed, faults=50, owns_broker=True)

    assert planned(1) == planned(1)
    assert planned(1)[0] != planned(2)[0]
    assert planned(1)[1] != planned(2)[1]


def test_as_many_purchases_are_planned_as_are_wanted_and_all_kinds_of_them() -> None:
    plan = stories.plan(seed=1, purchases=STORIES)
    told = [each for each in plan if isinstance(each, Story)]
    assert len(told) == STORIES
    assert {each.kind for each in told} == set(stories.KINDS)
    assert {each.proof for each in told} == set(get_args(Proof))
    assert {each.refund for each in told} == {None, *get_args(Refund)}
    assert {each.repeat for each in told} == {None, *get_args(Repeat)}
    assert any(each.refunded_first for each in told)
    assert any(isinstance(each, Spending) and each.repeats for each in plan)


def test_what_only_its_account_token_can_give_to_somebody_is_bought_with_one() -> None:
    for each in stories.plan(seed=1, purchases=STORIES):
        if isinstance(each, Story) and each.kind == "purchase":
            assert each.token or each.proof in {"signed", "receipt"}, each
            assert each.token or each.proof == "signed" or each.refund is None, each


@pytest.mark.parametrize("owns_broker", [True, False])
def test_as_many_faults_are_planned_as_are_wanted_in_equal_shares_of_all_groups(owns_broker: bool) -> None:
    wanted = faults.groups(owns_broker=owns_broker)
    planned = [fault for step in faults.plan(seed=1, faults=100, owns_broker=owns_broker) for fault in step]
    assert len(planned) == 100
    shares = [sum((fault.kind, fault.target) in group for fault in planned) for group in wanted]
    assert sum(shares) == 100
    assert max(shares) - min(shares) <= 1
    assert all((fault.lasts_s > 0) == (fault.kind in faults.LASTING) for fault in planned)


def test_no_fault_comes_again_before_all_of_its_group_were_there() -> None:
    for group in faults.groups(owns_broker=True):
        counts = Counter(
            (fault.kind, fault.target)
            for step in faults.plan(seed=3, faults=100, owns_broker=True)
            for fault in step
            if (fault.kind, fault.target) in group
        )
        assert max(counts.values()) - min(counts[each] for each in group) <= 1


def test_a_hundred_faults_are_of_all_kinds_and_some_overlap() -> None:
    steps = faults.plan(seed=1, faults=100, owns_broker=True)
    assert {fault.kind for step in steps for fault in step} == set(get_args(Kind))
    assert {len(step) for step in steps} == {1, 2}


def test_a_broker_that_is_not_ours_is_never_touched_itself() -> None:
    planned = [fault for step in faults.plan(seed=1, faults=200, owns_broker=False) for fault in step]
    assert faults.REDIS not in {fault.target for fault in planned}
