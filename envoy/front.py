"""What is wanted of a front. Pure values; `compose` makes the configuration of them."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Config = dict[str, Any]
"""A piece of Envoy's configuration, as JSON."""

DESCRIPTORS = Path(__file__).parent / "asr.binpb"


@dataclass(frozen=True, slots=True)
class Address:
    """A host, which is a name or an IP address, and a port; port 0 is a free one."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads HOST:PORT or [IPV6]:PORT. Raises ValueError."""
        host, colon, port = text.rpartition(":")
        if not (colon and host and port.isdigit() and int(port) <= 65535):
            raise ValueError(f"{text!r}: expected HOST:PORT")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_ip(self) -> bool:
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True

    @property
    def config(self) -> Config:
        return {"socket_address": {"address": self.host, "port_value": self.port}}


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM. With `client_ca` a client must show a certificate of it, for `client_name` (a URI) if that is set."""

    certificate: str
    key: str
    client_ca: str = ""
    client_name: str = ""

    def __post_init__(self) -> None:
        if self.client_name and not self.client_ca:
            raise ValueError("a client's name can be checked only where its certificate is: expected a client CA with it")


@dataclass(frozen=True, slots=True)
class Jwt:
    """Every call but health checks needs a token of this issuer for this audience, signed with one of the keys of the JWKS."""

    issuer: str
    audience: str
    jwks: str

    def __post_init__(self) -> None:
        try:
            keys = json.loads(self.jwks)["keys"]
        except (ValueError, KeyError, TypeError):
            keys = None
        if not isinstance(keys, list) or not keys:
            raise ValueError('the JWKS: expected {"keys": [...]}')


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Calls that one client may begin, `burst` at once and `per_second` over time. It is a token's subject, else an address."""

    per_second: int
    burst: int

    def __post_init__(self) -> None:
        if self.per_second < 1 or self.burst < self.per_second:
            raise ValueError(f"rate limit {self.per_second} per second, burst {self.burst}: expected 1 <= rate <= burst")


@dataclass(frozen=True, slots=True)
class Front:
    """One Envoy. The internal listener is for the bridges and trusts who reaches it; the admin port does too."""

    services: tuple[Address, ...]
    bridges: tuple[Address, ...]
    public: Address = Address("127.0.0.1", 8080)
    internal: Address = Address("127.0.0.1", 8081)
    admin: Address = Address("127.0.0.1", 9901)
    origins: tuple[str, ...] = ()
    """Web pages that may call from a browser, as "https://host"; "*" for all."""
    tls: Tls | None = None
    jwt: Jwt | None = None
    rate_limit: RateLimit | None = None
    otlp: Address | None = None
    """Where spans go, by OTLP over HTTP."""
    access_log: str = "/dev/stdout"
    descriptors: str = str(DESCRIPTORS)
    ping_s: int = 30
    """Seconds without a sign after which a client is asked for one; without an answer its calls end as if it had hung up."""

    def __post_init__(self) -> None:
        if not self.services or not self.bridges:
            raise ValueError("expected at least one service and one bridge")
        if self.ping_s < 1:
            raise ValueError(f"ping_s={self.ping_s}: expected at least 1")


def typed(name: str, kind: str, **fields: object) -> Config:
    """An extension: its name, and its configuration with the type that Envoy asks for."""
    return {"name": name, "typed_config": message(kind, **fields)}


def message(kind: str, **fields: object) -> Config:
    return {"@type": f"type.googleapis.com/{kind}", **fields}
