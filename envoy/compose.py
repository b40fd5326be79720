"""Composes Envoy's configuration; `python -m envoy.compose --service HOST:PORT --bridge HOST:PORT ...` prints it as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from envoy.clusters import clusters
from envoy.front import Address, Config, Front, Jwt, RateLimit, Tls, message
from envoy.listeners import listeners
from envoy.observing import labels

_MONITORS = "envoy.extensions.resource_monitors"
_HEAP_BYTES = 2 * 1024**3
_CONNECTIONS = 20_000


def compose(front: Front) -> Config:
    """The whole configuration. Pure: the same front gives the same configuration."""
    return {
        "node": {"id": "asr-front", "cluster": "asr-front"},
        "admin": {"address": front.admin.config},
        "overload_manager": _overload(),
        "stats_config": {"use_all_default_tags": False, "stats_tags": labels()},
        "static_resources": {"listeners": listeners(front), "clusters": clusters(front)},
    }


def _overload() -> Config:
    """Refusals before the machine runs out of memory or descriptors, which nobody would be told of."""
    heap, connections = "envoy.resource_monitors.fixed_heap", "envoy.resource_monitors.global_downstream_max_connections"
    monitors = [
        {"name": heap, "typed_config": message(f"{_MONITORS}.fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=_HEAP_BYTES)},
        {
            "name": connections,
            "typed_config": message(
                f"{_MONITORS}.downstream_connections.v3.DownstreamConnectionsConfig",
                max_active_downstream_connections=_CONNECTIONS,
            ),
        },
    ]
    full = [{"name": heap, "threshold": {"value": 0.95}}]
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": monitors,
        "actions": [{"name": "envoy.overload_actions.stop_accepting_requests", "triggers": full}],
    }


def parse(arguments: Sequence[str]) -> Front:
    """Reads the command line. Ends the program with a message for what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m envoy.compose", description="Prints the front's configuration as JSON.")
    address, default = Address.parse, Front((Address("", 0),), (Address("", 0),))
    parser.add_argument("--service", type=address, action="append", required=True, help="a replica, or a name with many")
    parser.add_argument("--bridge", type=address, action="append", required=True, help="a bridge, or a name with many")
    parser.add_argument("--public", type=address, default=default.public, help="where everybody calls (%(default)s)")
    parser.add_argument("--internal", type=address, default=default.internal, help="where the bridges call (%(default)s)")
    parser.add_argument("--admin", type=address, default=default.admin, help="metrics and draining (%(default)s)")
    parser.add_argument("--origin", action="append", default=[], help="a page that may call from browsers; * for all")
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"), help="PEM files of the public port")
    parser.add_argument("--client-ca", default="", help="PEM file: clients need a certificate of this CA")
    parser.add_argument("--client-name", default="", help="a URI that the client's certificate must have")
    parser.add_argument("--jwt", nargs=3, metavar=("ISSUER", "AUDIENCE", "JWKS"), help="calls need a token; JWKS is a file")
    parser.add_argument("--rate-limit", nargs=2, type=int, metavar=("PER_SECOND", "BURST"), help="calls of each client")
    parser.add_argument("--otlp", type=address, help="collector of spans, OTLP over HTTP")
    parser.add_argument("--access-log", default=default.access_log, help="file of the access log (%(default)s)")
    parser.add_argument("--descriptors", default=default.descriptors, help="the descriptor set (%(default)s)")
    given = parser.parse_args(arguments)
    try:
        return _front(given)
    except (ValueError, OSError) as error:
        parser.error(str(error))


def _front(given: argparse.Namespace) -> Front:
    if given.client_ca and not given.tls:
        raise ValueError("--client-ca: expected --tls with it")
    return Front(
        services=tuple(given.service),
        bridges=tuple(given.bridge),
        public=given.public,
        internal=given.internal,
        admin=given.admin,
        origins=tuple(given.origin),
        tls=Tls(given.tls[0], given.tls[1], given.client_ca, given.client_name) if given.tls else None,
        jwt=Jwt(given.jwt[0], given.jwt[1], Path(given.jwt[2]).read_text()) if given.jwt else None,
        rate_limit=RateLimit(*given.rate_limit) if given.rate_limit else None,
        otlp=given.otlp,
        access_log=given.access_log,
        descriptors=given.descriptors,
    )


def main() -> None:
    json.dump(compose(parse(sys.argv[1:])), sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
