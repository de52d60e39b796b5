"""Which addresses may be called: tables of what IANA's registries say, and properties that hold for every address."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from notifier.domain.addresses import NEVER, Kind, Reach, address_without_asking, in_words, kind_of

NOWHERE_ELSE = Reach.of(production=True)
EVERYWHERE = (ip_network("0.0.0.0/0"), ip_network("::/0"))
ALL_ALLOWED = Reach(allowed_networks=EVERYWHERE)

IPV4 = st.integers(0, 2**32 - 1).map(IPv4Address)
IPV6 = st.integers(0, 2**128 - 1).map(IPv6Address)
ADDRESSES = IPV4 | IPV6

SPECIAL: tuple[tuple[Kind, str], ...] = (
    ("unspecified", "0.0.0.0"),  # noqa: S104  nobody binds to it
    ("unspecified", "0.255.255.255"),
    ("private", "10.0.0.0"),
    ("private", "10.255.255.255"),
    ("private", "100.64.0.0"),
    ("private", "100.127.255.255"),
    ("loopback", "127.0.0.0"),
    ("loopback", "127.255.255.255"),
    ("link-local", "169.254.0.0"),
    ("link-local", "169.254.255.255"),
    ("private", "172.16.0.0"),
    ("private", "172.31.255.255"),
    ("reserved", "192.0.0.0"),
    ("reserved", "192.0.0.255"),
    ("documentation", "192.0.2.0"),
    ("documentation", "192.0.2.255"),
    ("reserved", "192.31.196.1"),
    ("reserved", "192.52.193.1"),
    ("reserved", "192.88.99.2"),
    ("private", "192.168.0.0"),
    ("private", "192.168.255.255"),
    ("reserved", "192.175.48.1"),
    ("benchmarking", "198.18.0.0"),
    ("benchmarking", "198.19.255.255"),
    ("documentation", "198.51.100.1"),
    ("documentation", "203.0.113.1"),
    ("multicast", "224.0.0.1"),
    ("multicast", "239.255.255.255"),
    ("reserved", "240.0.0.0"),
    ("reserved", "255.255.255.254"),
    ("broadcast", "255.255.255.255"),
    ("unspecified", "::"),
    ("loopback", "::1"),
    ("reserved", "100::1"),
    ("reserved", "100:0:0:1::1"),
    ("reserved", "200::"),
    ("reserved", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("reserved", "2001:1::1"),
    ("benchmarking", "2001:2::1"),
    ("reserved", "2001:3::1"),
    ("reserved", "2001:4:112::1"),
    ("reserved", "2001:10::1"),
    ("reserved", "2001:20::1"),
    ("reserved", "2001:30::1"),
    ("reserved", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("documentation", "2001:db8::"),
    ("documentation", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("reserved", "2620:4f:8000::1"),
    ("documentation", "3fff::"),
    ("documentation", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("reserved", "4000::"),
    ("reserved", "5f00::1"),
    ("reserved", "8000::"),
    ("reserved", "fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("private", "fc00::"),
    ("private", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("reserved", "fe00::"),
    ("link-local", "fe80::"),
    ("link-local", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("private", "fec0::"),
    ("private", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("multicast", "ff02::1"),
    ("link-local", "fe80::1%eth0"),
    ("link-local", "2606:4700::1111%eth0"),
)
METADATA = (
    "169.254.169.254",
    "169.254.169.253",
    "169.254.170.2",
    "169.254.170.23",
    "169.254.0.23",
    "169.254.42.42",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:42::42",
)
PUBLIC = (
    *("1.0.0.0", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255"),
    *("128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0", "172.15.255.255"),
    *("172.32.0.0", "191.255.255.255", "192.0.1.0", "192.0.3.0", "192.167.255.255", "192.169.0.0"),
    *("198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0", "203.0.112.255", "203.0.114.0"),
    *("223.255.255.255", "2000::", "2001:200::", "2001:db7:ffff::", "2001:db9::", "2003::", "2606:4700::1111"),
    *("2620:4f:7fff::", "2620:4f:8001::", "3ffe:ffff::", "3fff:1000::"),
)


class TestKinds:
    @pytest.mark.parametrize(("kind", "address"), SPECIAL)
    def test_a_special_address_is_what_the_registries_say_and_is_not_called(self, kind: Kind, address: str) -> None:
        assert kind_of(ip_address(address)) == kind
        assert NOWHERE_ELSE.refusal(ip_address(address)) == kind

    @pytest.mark.parametrize("address", PUBLIC)
    def test_a_public_address_and_those_beside_special_networks_may_be_called(self, address: str) -> None:
        assert kind_of(ip_address(address)) is None
        assert NOWHERE_ELSE.refusal(ip_address(address)) is None

    @given(ADDRESSES)
    @example(ip_address("192.0.0.8"))
    def test_nothing_that_the_standard_library_knows_to_be_special_may_be_called(
        self, address: IPv4Address | IPv6Address
    ) -> None:
        special = not address.is_global or address.is_multicast or address.is_reserved or address.is_link_local
        assert not special or NOWHERE_ELSE.refusal(address) is not None

    @given(IPV6)
    def test_of_ipv6_only_global_unicast_may_be_called(self, address: IPv6Address) -> None:
        assert address in IPv6Network("2000::/3") or NOWHERE_ELSE.refusal(address) is not None

    def test_each_reads_well_in_a_sentence(self) -> None:
        assert (in_words("private"), in_words("unspecified")) == ("a private address", "an unspecified address")


def translations(inner: IPv4Address) -> list[IPv6Address]:
    """Every address that leads to the IPv4 one, as the RFCs write them."""
    number = int(inner)
    return [
        IPv6Address(f"::ffff:{inner}"),
        IPv6Address(f"::ffff:0:{inner}"),
        IPv6Address(f"64:ff9b::{inner}"),
        IPv6Address(f"64:ff9b:1::{inner}"),
        IPv6Address(f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1"),
        IPv6Address(int(IPv6Address("2001:0:5db8:d822:8000::")) | number ^ 0xFFFFFFFF),
        *([IPv6Address(f"::{inner}")] if number > 1 else []),  # those two are IPv6's own
    ]


class TestTranslatedAddresses:
    @given(IPV4)
    @example(IPv4Address("8.8.8.8"))
    @example(IPv4Address("127.0.0.1"))
    @example(IPv4Address("169.254.169.254"))
    def test_who_stands_for_an_ipv4_address_is_not_called_and_is_known_by_it(self, inner: IPv4Address) -> None:
        for address in translations(inner):
            assert NOWHERE_ELSE.refusal(address) == (kind_of(inner) or "translated"), address

    @given(IPV4)
    @example(IPv4Address("8.8.8.8"))
    @example(IPv4Address("10.0.0.1"))
    def test_where_an_operator_allows_them_it_is_the_inner_address_that_counts(self, inner: IPv4Address) -> None:
        reach = Reach(allowed_networks=(ip_network("64:ff9b::/96"),))
        assert reach.refusal(IPv6Address(f"64:ff9b::{inner}")) == kind_of(inner)

    def test_an_allowed_ipv4_network_allows_none_of_those_that_stand_for_it(self) -> None:
        reach = Reach(allowed_networks=(ip_network("10.0.0.0/8"),))
        assert {reach.refusal(address) for address in translations(IPv4Address("10.0.0.1"))} == {"translated"}


class TestAllowedNetworks:
    @given(ADDRESSES, st.integers(0, 32))
    def test_allow_what_is_in_them_but_never_metadata_or_what_is_nobodys(
        self, address: IPv4Address | IPv6Address, size: int
    ) -> None:
        network = ip_network(f"{address}/{address.max_prefixlen - size}", strict=False)
        kind = kind_of(address)
        if kind in NEVER:
            assert Reach(allowed_networks=(network,)).refusal(address) == kind
        elif kind != "translated":
            assert Reach(allowed_networks=(network,)).refusal(address) is None

    @given(ADDRESSES)
    def test_change_nothing_for_what_is_outside_of_them(self, address: IPv4Address | IPv6Address) -> None:
        networks = (ip_network("10.1.0.0/16"), ip_network("fd12::/16"))
        inside = any(address in network for network in networks)
        assert inside or Reach(allowed_networks=networks).refusal(address) is not None or kind_of(address) is None

    @pytest.mark.parametrize("address", METADATA)
    def test_never_allow_a_clouds_metadata(self, address: str) -> None:
        metadata = ip_address(address)
        assert NOWHERE_ELSE.refusal(metadata) == "metadata"
        assert ALL_ALLOWED.refusal(metadata) == "metadata"
        if isinstance(metadata, IPv4Address):
            assert {ALL_ALLOWED.refusal(each) for each in translations(metadata)} == {"metadata"}

    def test_allow_one_private_network_and_not_its_neighbour(self) -> None:
        reach = Reach.of(production=True, allowed_networks=(ip_network("172.17.0.0/16"),))
        assert reach.refusal(ip_address("172.17.0.1")) is None
        assert reach.refusal(ip_address("172.18.0.1")) == "private"


class TestLaptops:
    @given(ADDRESSES)
    @example(IPv6Address("::ffff:127.0.0.1"))
    def test_may_call_themselves_and_nothing_else_that_production_may_not(
        self, address: IPv4Address | IPv6Address
    ) -> None:
        called = Reach.of(production=False).refusal(address) is None
        assert called == (kind_of(address) == "loopback" or NOWHERE_ELSE.refusal(address) is None)

    @pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
    def test_may_call_themselves(self, address: str) -> None:
        assert Reach.of(production=False).refusal(ip_address(address)) is None

    def test_alone_may_use_plain_http(self) -> None:
        assert (Reach.of(production=False).plain_http, Reach.of(production=True).plain_http) == (True, False)


def spellings(address: IPv4Address) -> list[str]:
    """As C, browsers, and people who hide something write it."""
    number = int(address)
    a, b, c, d = address.packed
    return [
        f"{address}",
        f"{address}.",
        f"{number}",
        f"{number:#x}",
        f"0X{number:X}",
        f"0{number:o}",
        f"0000{number:o}",
        f"{a}.{number & 0xFFFFFF}",
        f"{a}.{b}.{number & 0xFFFF}",
        f"{a:#x}.{b:#x}.{c:#x}.{d:#x}",
        f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        f"{a:#x}.0{b:o}.{number & 0xFFFF}",
        f"{address}".translate({ord(digit): chr(ord("０") + int(digit)) for digit in "0123456789"}),
        f"{address}".replace(".", "。"),
        f"{address}".replace(".", "．"),
        f"{address}".replace(".", "｡"),
    ]


class TestSpellings:
    @given(IPV4)
    @example(IPv4Address("127.0.0.1"))
    def test_an_ipv4_address_is_known_however_it_is_spelled(self, address: IPv4Address) -> None:
        assert {address_without_asking(host) for host in spellings(address)} == {address}

    @given(IPV6)
    @example(IPv6Address("::ffff:127.0.0.1"))
    def test_an_ipv6_address_is_known_however_it_is_spelled(self, address: IPv6Address) -> None:
        head, tail = address.exploded[:30], IPv4Address(int(address) & 0xFFFFFFFF)
        for host in (address.compressed, address.exploded, address.exploded.upper(), f"{head}{tail}"):
            assert address_without_asking(host) == address

    @given(st.lists(st.from_regex(r"\A(0[xX]?)?[0-9a-fA-F]{0,12}\Z"), min_size=1, max_size=5).map(".".join))
    @example("0177.1")
    @example("08.8.8.8")
    @example("1.2.3.256")
    @example("4294967295")
    def test_whatever_the_c_library_reads_as_an_address_is_known_as_that(self, host: str) -> None:
        try:
            read = IPv4Address(socket.inet_aton(host))
        except OSError:
            return
        assert address_without_asking(host) == read

    @pytest.mark.parametrize("host", ["localhost", "LocalHost", "localhost.", "backend.localhost", "ｌocalhost"])
    def test_localhost_is_this_machine(self, host: str) -> None:
        assert address_without_asking(host) == IPv4Address("127.0.0.1")

    @pytest.mark.parametrize("host", ["①②⑦.⓪.⓪.①", "127.1", "017700000001", "0x7f.1", "2130706433"])
    def test_the_spellings_of_the_books_are_known(self, host: str) -> None:
        assert address_without_asking(host) == IPv4Address("127.0.0.1")

    def test_an_address_with_a_zone_keeps_it(self) -> None:
        known = address_without_asking("fe80::1%eth0")
        assert isinstance(known, IPv6Address)
        assert known.scope_id == "eth0"

    @pytest.mark.parametrize(
        "host",
        [
            "backend.example",
            "127.0.0.1.example",
            "1.2.3.4.5",
            "256.1.1.1",
            "1.2.3.256",
            "4294967296",
            "0x100000000",
            "08.8.8.8",
            "0x7g.1",
            "1..2",
            ".",
            "",
            "-1",
            "1_0.0.0.1",
            "notlocalhost",
            "localhost.example",
            "::1::",
            "1:2",
            "9" * 5000,
        ],
    )
    def test_a_name_is_no_address(self, host: str) -> None:
        assert address_without_asking(host) is None

    @given(st.text())
    def test_no_host_whatever_it_holds_is_an_error(self, host: str) -> None:
        address_without_asking(host)
