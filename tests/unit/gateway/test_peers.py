"""Where a request comes from: behind proxies of ours, and only behind those."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from gateway.domain.peers import HOPS_MAX, origin
from gateway.settings import PRIVATE_NETWORKS
from shared.settings import networks

PROXIES = networks(PRIVATE_NETWORKS)
CLIENT, OTHER = "203.0.113.7", "198.51.100.9"


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        (CLIENT, "", CLIENT),
        (CLIENT, OTHER, CLIENT),  # nobody of ours wrote that
        ("127.0.0.1", CLIENT, CLIENT),
        ("10.0.0.2", f"{OTHER}, {CLIENT}", CLIENT),  # the client wrote the first itself
        ("10.0.0.2", f"{OTHER}, {CLIENT}, 10.0.0.1", CLIENT),
        ("10.0.0.2", "", "10.0.0.2"),
        ("10.0.0.2", "10.0.0.9", "10.0.0.9"),  # a caller within the private network
        ("10.0.0.2", f"{CLIENT}, unknown", "10.0.0.2"),
        ("10.0.0.2", f"{CLIENT}:49152", CLIENT),
        ("10.0.0.2", "[2001:db8::1]:443", "2001:db8::/64"),
        ("10.0.0.2", f" {CLIENT} ", CLIENT),
        ("::ffff:127.0.0.1", CLIENT, CLIENT),  # a socket for both kinds shows IPv4 so
        (f"::ffff:{CLIENT}", OTHER, CLIENT),
        ("", CLIENT, ""),
    ],
)
def test_the_origin_is_whom_the_last_of_our_proxies_saw(peer: str, forwarded_for: str, expected: str) -> None:
    assert origin(peer, forwarded_for, proxies=PROXIES) == expected


def test_all_addresses_of_one_subscriber_are_one_origin() -> None:
    origins = {origin(f"2001:db8:0:7::{last:x}", "", proxies=PROXIES) for last in range(100)}
    assert origins == {"2001:db8:0:7::/64"}
    assert origin("2001:db8:0:8::1", "", proxies=PROXIES) not in origins


def test_without_proxies_nobody_speaks_for_somebody_else() -> None:
    assert origin("127.0.0.1", CLIENT, proxies=()) == "127.0.0.1"


def test_a_proxy_with_a_public_address_is_looked_behind_once_it_is_named() -> None:
    named = (*PROXIES, ip_network(f"{OTHER}/32"))
    assert origin("10.0.0.2", f"{CLIENT}, {OTHER}", proxies=named) == CLIENT
    assert origin("10.0.0.2", f"{CLIENT}, {OTHER}", proxies=PROXIES) == OTHER


def test_a_long_list_is_read_from_its_end_and_no_further_than_there_are_proxies() -> None:
    hops = ", ".join([CLIENT] + ["10.0.0.1"] * HOPS_MAX)
    assert origin("10.0.0.2", hops, proxies=PROXIES) == "10.0.0.1"
    assert origin("10.0.0.2", ",".join([OTHER] * 100_000 + [CLIENT]), proxies=PROXIES) == CLIENT
