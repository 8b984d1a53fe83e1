"""What stands for one stranger among addresses: nobody may become many by how an address is written."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Final

_NAT64: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
"""Where translators put IPv4 callers (RFC 6052, RFC 8215); the last 32 bits are the caller's."""
_IPV4_COMPATIBLE: Final = IPv6Network("::/96")


def household(address: str) -> str:
    """The network that counts as one caller: an IPv4 address, or the /64 of IPv6 that one home or office has.

    IPv4 inside IPv6 (mapped, as dual-stack proxies hand it on, NAT64, 6to4) counts as that IPv4 address; else
    all visitors behind such a proxy would be one. What is no address stands for itself.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        inner = _inside(parsed)
        if inner is None:
            return str(ipaddress.ip_network((parsed, 64), strict=False))
        parsed = inner
    return f"{parsed}/32"


def _inside(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if any(address in network for network in _NAT64) or (
        address in _IPV4_COMPATIBLE and int(address) > 0xFFFF  # not :: and ::1
    ):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None
