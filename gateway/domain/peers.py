"""Where a request comes from: the address that failures are counted by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

HOPS_MAX: Final = 10
"""Proxies that are looked behind. What comes before them in the header anybody may have written."""
_SUBSCRIBER_BITS: Final = 64
"""An IPv6 network of this length is one subscriber's, who has all of its addresses (RFC 6177)."""


def origin(peer: str, forwarded_for: str, *, proxies: Sequence[IpNetwork]) -> str:
    """Whose request it is: the IPv4 address, or the IPv6 network, that is not one of our proxies.

    `peer` is who is connected to us. If that is one of `proxies`, `forwarded_for` (`X-Forwarded-For`) says who was
    connected to it, and so on; each proxy appends, so it is read from its end. Only what a proxy of ours wrote counts.
    """
    known = _address(peer)
    if known is None:  # a Unix socket, say
        return peer
    for hop in _hops(forwarded_for):
        if not any(known in network for network in proxies):
            break
        before = _address(hop)
        if before is None:
            break
        known = before
    return _subscriber(known)


def _hops(forwarded_for: str) -> Iterator[str]:
    last = forwarded_for.rsplit(",", HOPS_MAX)[-HOPS_MAX:]
    return (hop.strip() for hop in reversed(last))


def _address(text: str) -> IpAddress | None:
    """The address, without the port that some proxies write behind it; None for what is none."""
    host = text.partition("]")[0].removeprefix("[") if text.startswith("[") else text
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _subscriber(address: IpAddress) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(IPv6Network((address, _SUBSCRIBER_BITS), strict=False))
