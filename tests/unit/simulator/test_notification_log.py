"""What is remembered of notifications: all that are pending, so many of the others, in the order of their coming."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from simulator.certificates import Authority
from simulator.domain import NotificationUnknown
from simulator.notification_log import Notification, NotificationLog
from simulator.signing import Signer, fold, unfold
from tests.support.shop import MONTHLY, START, Shop

A_SECOND = timedelta(seconds=1)


def notification(number: int) -> Notification:
    return Notification(
        id=UUID(int=number),
        type="DID_RENEW",
        subtype=None,
        bundle_id="com.example.game",
        transaction_id=None,
        environment="production",
        signed_payload="e30.e30.c2ln",
        created_at=START + number * A_SECOND,
    )


def filled(count: int, *, settled_max: int = 10_000) -> NotificationLog:
    """Of so many notifications, a second apart, each delivered as it came."""
    log = NotificationLog(settled_max=settled_max)
    for number in range(count):
        log.add(notification(number), now=START + number * A_SECOND)
        log.change(replace(notification(number), state="delivered"))
    return log


def numbers(found: list[Notification]) -> list[int]:
    return [each.id.int for each in found]


def test_it_can_be_paged_from_the_oldest_to_the_newest() -> None:
    log, seen, after = filled(105), list[int](), None
    for _ in range(6):
        page = log.oldest(limit=20, after=after, since=START, wanted=lambda _: True)
        seen += numbers(page)
        after = page[-1].id
    assert seen == list(range(105))


def test_a_page_looks_at_nothing_that_came_before_its_beginning() -> None:
    log, looked_at = filled(1_000), list[int]()

    def wanted(each: Notification) -> bool:
        looked_at.append(each.id.int)
        return True

    log.oldest(limit=20, after=UUID(int=900), since=START, wanted=wanted)
    assert looked_at == list(range(901, 921))
    looked_at.clear()
    log.oldest(limit=20, after=None, since=START + 950 * A_SECOND, wanted=wanted)
    assert looked_at == list(range(950, 970))


def test_the_settled_that_were_settled_first_are_forgotten_and_the_order_stays() -> None:
    log = NotificationLog(settled_max=3)
    log.add(notification(0), now=START)  # and stays pending
    for number in range(1, 5_000):
        log.add(notification(number), now=START)
        log.change(replace(notification(number), state="dropped"))
    assert numbers(log.oldest(limit=9, after=None, since=START, wanted=lambda _: True)) == [0, 4_997, 4_998, 4_999]
    assert numbers(log.newest(limit=9, after=UUID(int=4_998), wanted=lambda _: True)) == [4_997, 0]
    assert (len(log), log.find(UUID(int=1))) == (4, None)
    assert len(log._ids) < 1_100
    with pytest.raises(NotificationUnknown):
        log.oldest(limit=1, after=UUID(int=1), since=START, wanted=lambda _: True)


def test_what_is_kept_comes_back_as_it_was_sent(shop: Shop) -> None:
    shop.store.buy(product_id=MONTHLY)
    sent = shop.sender.sent[0]
    log = NotificationLog(settled_max=1)
    log.add(sent, now=START)
    log.change(replace(sent, state="delivered", signed_payload="not looked at"))
    assert log.get(sent.id) == replace(sent, state="delivered")


def test_folding_keeps_each_chain_of_certificates_once(shop: Shop, authority: Authority) -> None:
    shop.store.buy(product_id=MONTHLY)
    whole = shop.sender.sent[0].signed_payload
    folded = fold(whole)
    assert unfold(folded) == whole
    assert len(folded.payload) + len(folded.signature) < len(whole) / 5
    assert folded.header is fold(Signer(authority).sign({"a": 1})).header
