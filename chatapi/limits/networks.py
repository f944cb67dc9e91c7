"""The network that an address stands for in limits: a caller with many addresses must not have many limits."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address

INTERFACE_BITS = 64  # of an IPv6 address: a single host may use all of them (RFC 4291, section 2.5.1)


@lru_cache(4096)
def network_of(address: str) -> str:
    """Return the /64 network of an IPv6 address; any other address, or text, as it is.

    An IPv4 address that is written as one of IPv6 (`::ffff:192.0.2.1`) is that IPv4 address.
    """
    if ":" not in address:
        return address
    try:
        found = IPv6Address(address)
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return f"{IPv6Address(int(found) >> INTERFACE_BITS << INTERFACE_BITS)}/{INTERFACE_BITS}"
