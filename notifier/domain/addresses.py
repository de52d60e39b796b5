"""Which addresses endpoints may be called at: public ones, and what the operator allows besides.

What is not public is listed here, after IANA's registries of special-purpose addresses: `ipaddress.is_global` does not
mean the same in every release of Python 3.11, and says nothing of addresses that lead to others.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final, Literal

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

Kind = Literal[
    "metadata",
    "loopback",
    "private",
    "link-local",
    "multicast",
    "broadcast",
    "unspecified",
    "benchmarking",
    "documentation",
    "translated",
    "reserved",
]
"""What an address is that is not public. `translated`: it stands for an IPv4 address, which is called in the end."""

NEVER: Final[frozenset[Kind]] = frozenset({"metadata", "multicast", "broadcast", "unspecified"})
"""What no setting allows: who answers at a cloud's metadata address hands out the machine's own credentials, and the
others are nobody's address."""

# https://www.iana.org/assignments/iana-ipv4-special-registry
# https://www.iana.org/assignments/iana-ipv6-special-registry
# https://www.iana.org/assignments/ipv6-address-space
_SPECIAL: Final[Mapping[Kind, tuple[str, ...]]] = {
    "metadata": (  # first, since some lie within networks that may be allowed
        "169.254.169.0/24",  # AWS, Azure, Google, Oracle, …: .254 is the metadata, others are the cloud's own services
        "169.254.170.0/24",  # AWS: credentials of ECS tasks and EKS pods
        "169.254.0.23/32",  # Tencent
        "169.254.42.42/32",  # Scaleway
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure's host, in the midst of public addresses
        "192.0.0.192/32",  # Oracle's classic cloud
        "fd00:ec2::/32",  # AWS
        "fd20:ce::254/128",  # Google
        "fd00:42::42/128",  # Scaleway
    ),
    "loopback": ("127.0.0.0/8", "::1/128"),  # RFC 1122; RFC 4291
    "unspecified": ("0.0.0.0/8", "::/128"),  # RFC 791, "this network": Linux takes 0.0.0.0 for itself; RFC 4291
    "broadcast": ("255.255.255.255/32",),  # RFC 919
    "multicast": ("224.0.0.0/4", "ff00::/8"),  # RFC 5771; RFC 4291
    "link-local": ("169.254.0.0/16", "fe80::/10"),  # RFC 3927; RFC 4291
    "private": (
        "10.0.0.0/8",  # RFC 1918, with the next two
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",  # RFC 6598: shared with a carrier's other customers, and inside of clouds
        "fc00::/7",  # RFC 4193: unique local
        "fec0::/10",  # RFC 3879: site-local, deprecated
    ),
    "benchmarking": ("198.18.0.0/15", "2001:2::/48"),  # RFC 2544; RFC 5180
    "documentation": (
        "192.0.2.0/24",  # RFC 5737, with the next two
        "198.51.100.0/24",
        "203.0.113.0/24",
        "2001:db8::/32",  # RFC 3849
        "3fff::/20",  # RFC 9637
    ),
    "translated": (
        "::ffff:0:0/96",  # RFC 4291: IPv4-mapped
        "::/96",  # RFC 4291: IPv4-compatible, deprecated
        "::ffff:0:0:0/96",  # RFC 2765: IPv4-translated, obsolete
        "64:ff9b::/96",  # RFC 6052: NAT64
        "64:ff9b:1::/48",  # RFC 8215: NAT64 within a network
        "2001::/32",  # RFC 4380: Teredo
        "2002::/16",  # RFC 3056: 6to4
    ),
    "reserved": (
        "192.0.0.0/24",  # RFC 6890: the IETF's own protocols
        "192.31.196.0/24",  # RFC 7535: AS112
        "192.52.193.0/24",  # RFC 7450: AMT
        "192.88.99.0/24",  # RFC 7526: relays of 6to4, deprecated
        "192.175.48.0/24",  # RFC 7534: AS112
        "240.0.0.0/4",  # RFC 1112
        "2001::/23",  # RFC 2928: the IETF's own protocols, with ORCHID (RFC 7343), AS112, AMT, drones (RFC 9374)
        "2620:4f:8000::/48",  # RFC 7534: AS112
        "::/3",  # RFC 4291: outside of 2000::/3 nothing is anybody's unicast address
        "4000::/2",
        "8000::/1",
    ),
}
_TABLE: Final = tuple((ip_network(network), kind) for kind, networks in _SPECIAL.items() for network in networks)

# Where the IPv4 address stands: so many bits from the right, and what it is XORed with.
_EMBEDDED: Final = tuple(
    (IPv6Network(network), bits, mask)
    for network, bits, mask in (
        ("2001::/32", 0, 0xFFFFFFFF),  # RFC 4380, section 4: the client's, each bit turned over
        ("2002::/16", 80, 0),  # RFC 3056, section 2
        ("::/3", 0, 0),  # all the others, in their last 32 bits
    )
)


@dataclass(frozen=True, slots=True)
class Reach:
    """What may be called besides public addresses over TLS: `loopback` and `plain_http` are for laptops."""

    allowed_networks: tuple[IpNetwork, ...] = ()
    loopback: bool = False
    plain_http: bool = False

    @classmethod
    def of(cls, *, production: bool, allowed_networks: tuple[IpNetwork, ...] = ()) -> Reach:
        """In production nothing but what the operator allows; elsewhere this machine too."""
        return cls(allowed_networks, loopback=not production, plain_http=not production)

    def refusal(self, address: IpAddress) -> Kind | None:
        """What the address is that it may not be called; None: it may."""
        kind = kind_of(address)
        if kind == "translated" and isinstance(address, IPv6Address) and (inner := self.refusal(_embedded(address))):
            return inner
        if kind is None or kind in NEVER:
            return kind
        return None if self._allows(address, kind) else kind

    def _allows(self, address: IpAddress, kind: Kind) -> bool:
        return (self.loopback and kind == "loopback") or any(address in network for network in self.allowed_networks)


def in_words(kind: Kind) -> str:
    """`a private address`."""
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind} address"


def kind_of(address: IpAddress) -> Kind | None:
    """What the address is; None: it is a public one."""
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        return "link-local"  # only those need a zone (RFC 4007), and what a zone means is this machine's own business
    return next((kind for network, kind in _TABLE if address in network), None)


def _embedded(address: IPv6Address) -> IPv4Address:
    """The IPv4 address that a translated one stands for."""
    bits, mask = next((bits, mask) for network, bits, mask in _EMBEDDED if address in network)
    return IPv4Address((int(address) >> bits & 0xFFFFFFFF) ^ mask)


def address_without_asking(host: str) -> IpAddress | None:
    """The address that a URL's host is, in whatever spelling; None: a name, which only the DNS knows.

    As browsers and resolvers read hosts (https://url.spec.whatwg.org/#host-parsing, inet_aton): `127.1`, `0x7f000001`,
    `017700000001`, `2130706433` and `①②⑦.⓪.⓪.①` are all 127.0.0.1, and so is `localhost` (RFC 6761, section 6.3).
    """
    text = unicodedata.normalize("NFKC", host).replace("。", ".").removesuffix(".").lower()
    if text == "localhost" or text.endswith(".localhost"):
        return IPv4Address("127.0.0.1")
    try:
        return IPv6Address(text) if ":" in text else _ipv4(text)
    except AddressValueError:
        return None


def _ipv4(text: str) -> IPv4Address | None:
    """One to four numbers; the last one fills all bytes that are left."""
    numbers = list(_numbers(text.split(".")))
    if None in numbers or len(numbers) > 4:
        return None
    *first, last = (number for number in numbers if number is not None)
    if any(number > 255 for number in first) or last >= 256 ** (4 - len(first)):
        return None
    return IPv4Address(last + sum(number << 8 * (3 - place) for place, number in enumerate(first)))


def _numbers(parts: list[str]) -> Iterator[int | None]:
    """Each as C reads it: hexadecimal after 0x, octal after 0; None for what is no number."""
    for part in parts:
        if re.fullmatch(r"0x[0-9a-f]{0,64}", part):
            yield int(part[2:] or "0", 16)
        elif re.fullmatch(r"0[0-7]{0,64}", part):
            yield int(part, 8)
        elif re.fullmatch(r"[1-9][0-9]{0,64}", part):
            yield int(part)
        else:
            yield None
