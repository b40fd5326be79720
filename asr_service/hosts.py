"""Addresses to listen on and to call."""

from __future__ import annotations

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can be reached from this machine only."""
    if host == "localhost" or host.startswith("unix:"):
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_port(host: str, port: int) -> str:
    """HOST:PORT, with the brackets that an IPv6 address needs."""
    bare = host.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


def reachable(host: str) -> str:
    """The address at which somebody on this machine reaches a server that listens on `host`."""
    bare = host.strip("[]")
    try:
        address = ip_address(bare)
    except ValueError:
        return bare
    if not address.is_unspecified:
        return bare
    return "127.0.0.1" if address.version == 4 else "::1"
