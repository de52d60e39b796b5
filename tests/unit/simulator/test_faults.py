"""Faults strike as often as they were told to, and only then."""

from __future__ import annotations

from simulator.faults import (
    SHUFFLE_WINDOW_S,
    ApiFaults,
    FaultBoard,
    Faults,
    Journey,
    Mishap,
    NotificationFaults,
    VerifyReceiptFaults,
)
from tests.support.seeded import seeded_ids


def board(notifications: NotificationFaults | None = None) -> FaultBoard:
    made = FaultBoard(seeded_ids(11))
    made.put(Faults(notifications=notifications or NotificationFaults()))
    return made


def test_without_faults_a_notification_goes_once_and_at_once() -> None:
    assert {board().draw_journey() for _ in range(100)} == {Journey(dropped=False, copies=1, hold_s=0)}


def test_what_is_certain_happens_every_time() -> None:
    certain = board(NotificationFaults(duplicate=1, drop=1, delay_ms=500))
    assert {certain.draw_journey() for _ in range(100)} == {Journey(dropped=True, copies=2, hold_s=0.5)}


def test_a_shuffle_holds_back_for_different_times_within_its_window() -> None:
    shuffled = board(NotificationFaults(shuffle=1))
    held = {shuffled.draw_journey().hold_s for _ in range(100)}
    assert len(held) > 90
    assert all(0 <= seconds <= SHUFFLE_WINDOW_S for seconds in held)


def test_a_probability_strikes_about_that_often_and_the_same_with_the_same_seed() -> None:
    first, second = ([each.draw_journey().dropped for _ in range(1000)] for each in _two_alike())
    assert first == second
    assert 250 < sum(first) < 350


def _two_alike() -> tuple[FaultBoard, FaultBoard]:
    return board(NotificationFaults(drop=0.3)), board(NotificationFaults(drop=0.3))


def test_the_board_shows_which_calls_are_still_to_come() -> None:
    made = board()
    made.put(Faults(verify_receipt=VerifyReceiptFaults(statuses=(21005, 21009)), api=ApiFaults(statuses=("cut",))))
    assert made.strike_verify_receipt().code == 21005
    assert (made.get().verify_receipt.statuses, made.get().api.statuses) == ((21009,), ("cut",))


def test_new_faults_replace_the_old_ones_whole() -> None:
    made = board(NotificationFaults(drop=1))
    made.put(Faults(verify_receipt=VerifyReceiptFaults(statuses=(21005,)), api=ApiFaults(statuses=(503,))))
    made.put(Faults())
    assert (made.get(), made.strike_verify_receipt(), made.strike_api()) == (Faults(), Mishap(), Mishap())


def test_each_call_has_a_fault_of_its_own_and_then_only_what_lasts_is_left() -> None:
    made = board()
    calls = (0, 21005, "http_503", "timeout", "cut", "not_json", "huge")
    made.put(Faults(verify_receipt=VerifyReceiptFaults(statuses=calls, delay_ms=100, hang_ms=2000, cut=True)))
    assert [made.strike_verify_receipt() for _ in range(8)] == [
        Mishap(hold_s=0.1, spoiling="cut"),
        Mishap(hold_s=0.1, code=21005),
        Mishap(hold_s=0.1, http_status=503),
        Mishap(hold_s=2.1),
        Mishap(hold_s=0.1, spoiling="cut"),
        Mishap(hold_s=0.1, spoiling="not_json"),
        Mishap(hold_s=0.1, spoiling="huge"),
        Mishap(hold_s=0.1, spoiling="cut"),
    ]


def test_of_the_server_api_a_number_is_an_http_status_or_an_error_code() -> None:
    made = board()
    made.put(Faults(api=ApiFaults(statuses=(500, 5000001, 0), error_code=4290000, status=430)))
    assert [made.strike_api() for _ in range(4)] == [
        Mishap(http_status=500),
        Mishap(code=5000001),
        Mishap(code=4290000, http_status=430),
        Mishap(code=4290000, http_status=430),
    ]


def test_the_calls_of_one_road_leave_the_others_alone() -> None:
    made = board()
    made.put(Faults(verify_receipt=VerifyReceiptFaults(statuses=(21005,))))
    assert made.strike_api() == Mishap()
    assert made.strike_verify_receipt() == Mishap(code=21005)
