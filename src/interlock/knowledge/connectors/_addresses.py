"""Connections to the outside only: an address of one's own network is refused before anything is sent to it."""

from __future__ import annotations

import ipaddress
import socket

import anyio
import httpx2

from interlock.core.errors import InvalidInput, Unavailable

__all__ = ["GuardedTransport", "is_outside"]

_ASSIGNED = ipaddress.ip_network("2000::/3")
"""All of IPv6 that is given out for the public network; translated, compatible and site-local forms lie elsewhere."""
_DOCUMENTS = ipaddress.ip_network("3fff::/20")
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
"""Upper half of an interface identifier whose lower half is an IPv4 address (RFC 5214)."""
_MOST_HOSTS = 50


def is_outside(address: str) -> bool:
    """True for an address of the public network; every way to write an inner one in IPv6 counts as inner."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_outside(str(ip.ipv4_mapped))
        if ip.sixtofour is not None or ip.teredo is not None or ip not in _ASSIGNED or ip in _DOCUMENTS:
            return False
        if int(ip) >> 32 & 0xFFFFFFFF in _ISATAP and not is_outside(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))):
            return False
    return ip.is_global and not ip.is_multicast


class GuardedTransport(httpx2.AsyncBaseTransport):
    """Resolves each name itself, refuses inner addresses, and connects to the very address it looked at.

    A name that is looked up again for the connection could have another address by then.
    """

    def __init__(self) -> None:
        self._by_host: dict[str, httpx2.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Raises: InvalidInput: an inner address. Unavailable: the name is unknown."""
        host = request.url.host
        address = await _outside_address(host, request.url.port or (443 if request.url.scheme == "https" else 80))
        if host not in self._by_host and len(self._by_host) >= _MOST_HOSTS:
            raise InvalidInput(f"the source names more than {_MOST_HOSTS} hosts", code="too_many_hosts")
        # One pool a host: pools know connections by address, and two hosts may share one.
        transport = self._by_host.setdefault(host, httpx2.AsyncHTTPTransport(trust_env=False))
        request.url = request.url.copy_with(host=address)
        request.extensions = {**request.extensions, "sni_hostname": host}
        return await transport.handle_async_request(request)

    async def aclose(self) -> None:
        """Close all connections."""
        for transport in self._by_host.values():
            await transport.aclose()


async def _outside_address(host: str, port: int) -> str:
    try:
        found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unavailable(
            f"the host {host!r} cannot be found",
            code="source_unreachable",
            hint="check the address; names are looked up on the machine that ingests",
        ) from error
    addresses = [str(where[4][0]) for where in found]
    if not addresses or not all(is_outside(address) for address in addresses):
        raise InvalidInput(
            f"the host {host!r} has an address of a private network",
            param="sources.url",
            code="private_address",
            hint="set allow_private: true on the source when it is one of yours",
        )
    return addresses[0]
