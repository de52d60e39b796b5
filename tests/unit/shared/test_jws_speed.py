"""A cache that is lost would go unnoticed but for this: `tests/benchmarks/signatures.py` has the true figures."""

from __future__ import annotations

from tests.benchmarks.signatures import measure


def test_a_notification_is_verified_in_a_tenth_of_what_apples_library_needs() -> None:
    costs = measure(rounds=15)
    assert costs.times_apples >= 10
    assert costs.apples_us / costs.here_with_revocation_us >= 10
