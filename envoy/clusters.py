"""Replicas behind the front: who is asked next, who is left out, and how much at once.

services   gRPC, least loaded first: what is asked once
sessions   the same replicas, by session id: what is gone on with
bridges    HTTP
otlp       the collector of spans
"""

from __future__ import annotations

from collections.abc import Sequence

from envoy.front import Address, Config, Front, message

SERVICES = "services"
SESSIONS = "sessions"
BRIDGES = "bridges"
OTLP = "otlp"

HEALTH_NAME = "asr.v1.AsrService"

_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def clusters(front: Front) -> list[Config]:
    made = [
        _grpc(SERVICES, front.services, {"lb_policy": "LEAST_REQUEST", "least_request_lb_config": {"choice_count": 2}}),
        # Of all who hash, MAGLEV moves the fewest sessions when a replica goes.
        _grpc(SESSIONS, front.services, {"lb_policy": "MAGLEV"}),
        _bridges(front.bridges),
    ]
    return made if front.otlp is None else [*made, _cluster(OTLP, [front.otlp])]


def _cluster(name: str, addresses: Sequence[Address], **more: object) -> Config:
    endpoints = [{"endpoint": {"address": address.config}} for address in addresses]
    return {
        "name": name,
        # A name may stand for several replicas that come and go: each of its addresses is one.
        "type": "STATIC" if all(address.is_ip for address in addresses) else "STRICT_DNS",
        "connect_timeout": "1s",  # the default of 5 s is how long a caller would wait for each replica that vanished
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        **more,
    }


def _grpc(name: str, addresses: Sequence[Address], balancing: Config) -> Config:
    http2 = {
        # A fast client's sound waits in the client, not here: the default windows are 268 MB for a connection.
        "initial_stream_window_size": 1024 * 1024,
        "initial_connection_window_size": 16 * 1024 * 1024,
        # A replica that stopped without a word. The service takes a ping every 5 s.
        "connection_keepalive": {"interval": "15s", "timeout": "5s"},
    }
    return _cluster(
        name,
        addresses,
        **balancing,
        **_judging(),
        **_limits(),
        per_connection_buffer_limit_bytes=1024 * 1024,
        health_checks=[{**_CHECK, "grpc_health_check": {"service_name": HEALTH_NAME}}],
        typed_extension_protocol_options={_HTTP: message(_HTTP, explicit_http_config={"http2_protocol_options": http2})},
    )


def _bridges(addresses: Sequence[Address]) -> Config:
    return _cluster(
        BRIDGES,
        addresses,
        lb_policy="LEAST_REQUEST",
        **_judging(),
        **_limits(),
        per_connection_buffer_limit_bytes=1024 * 1024,
        # Whether it lives. /ready says whether the services do, which is the same for all bridges: they would leave together.
        health_checks=[{**_CHECK, "http_health_check": {"path": "/health"}}],
        typed_extension_protocol_options={
            _HTTP: message(
                _HTTP,
                explicit_http_config={"http_protocol_options": {}},
                # Below the 75 s after which a bridge closes a connection that is not used: a request must not meet that.
                common_http_protocol_options={"idle_timeout": "60s"},
            )
        },
    )


# NOT_SERVING, or a status of 503, counts at once; no answer only the second time, so that a busy moment costs nobody a replica.
_CHECK: Config = {
    "timeout": "2s",
    "interval": "0.5s",
    "no_traffic_interval": "0.5s",  # the default of 60 s would let the first callers find out
    "interval_jitter_percent": 10,
    "unhealthy_threshold": 2,
    "healthy_threshold": 1,
}


def _judging() -> Config:
    return {
        "common_lb_config": {
            # The default sends calls to replicas that are known to be away when half of them are. A clear error is better.
            "healthy_panic_threshold": {"value": 0},
            # By default what is known of replicas is told to the threads that choose among them once a second: so long a dead
            # one would still be asked, and one that is back would not.
            "update_merge_window": "0s",
        },
        # A replica that is drained and then removed from DNS goes at once; its calls have ended by then.
        "ignore_health_on_host_removal": True,
        "outlier_detection": {
            # What cannot be reached is out before the next health check says so.
            "split_external_local_origin_errors": True,
            "consecutive_local_origin_failure": 3,
            "enforcing_consecutive_local_origin_failure": 100,
            # Answers are judged by the service's own health. An UNAVAILABLE is often a wish to come back later, a 5xx the fate
            # of one recording: neither is a reason to leave the others with the whole load.
            "enforcing_consecutive_5xx": 0,
            "enforcing_consecutive_gateway_failure": 0,
            "enforcing_success_rate": 0,
            "interval": "1s",
            "base_ejection_time": "1s",  # the health check keeps out what stays away
            "max_ejection_time": "5s",
            "max_ejection_percent": 100,  # one that is alone and away is away
        },
    }


def _limits() -> Config:
    """A backstop for what nobody thought of: long before, a replica with MAX_REQUESTS (128) inside refuses with a hint."""
    return {
        "circuit_breakers": {
            "thresholds": [
                {
                    "priority": "DEFAULT",
                    "max_connections": 8192,
                    "max_pending_requests": 8192,
                    "max_requests": 8192,
                    # Retries are a share of the load: a burst on a dead replica goes on, a storm does not begin.
                    "retry_budget": {"budget_percent": {"value": 50}, "min_retry_concurrency": 64},
                }
            ]
        }
    }
