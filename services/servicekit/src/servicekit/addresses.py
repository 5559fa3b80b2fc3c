"""Where a caller is, and how much of an address is one caller's."""

import ipaddress
from typing import Annotated

from fastapi import Depends, Request


async def get_address(request: Request) -> str:
    """Return the address of the caller, as far as the server trusts who names it (`FORWARDED_ALLOW_IPS`)."""
    return request.client.host if request.client else ""


AddressDep = Annotated[str, Depends(get_address)]


def network_of(address: str) -> str:
    """Return what one caller has of addresses: one of IPv4, 2**64 of IPv6; what is no address stays as it is."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
