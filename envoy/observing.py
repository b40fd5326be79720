"""What the front tells about itself: a line of JSON for each call, and spans."""

from __future__ import annotations

import re

from envoy.clusters import OTLP
from envoy.descriptors import SERVICE_NAME
from envoy.front import Config, Front, typed

_LINE = {
    "ts": "%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%",
    "method": "%REQ(:METHOD)%",
    # Without what follows a question mark: that may be a text, or a token.
    "path": "%PATH(NQ:ORIG_OR_PATH)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    # Of gRPC calls; for JSON and gRPC-Web it is derived from the HTTP status. The services' own metrics are the truth.
    "grpc_status": "%GRPC_STATUS(SNAKE_STRING)%",
    "why": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "bytes_in": "%BYTES_RECEIVED%",
    "bytes_out": "%BYTES_SENT%",
    "ms": "%DURATION%",
    "upstream_ms": "%RESPONSE_DURATION%",
    "upstream": "%UPSTREAM_HOST%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
    "peer": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%",
    "client": "%REQ(X-CLIENT-ID)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "session_id": "%REQ(X-SESSION-ID)%",
    "traceparent": "%REQ(TRACEPARENT)%",
}


def access_log(front: Front, listener: str) -> list[Config]:
    kind = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
    form = {"json_format": {"listener": listener, **_LINE}}
    return [typed("envoy.access_loggers.file", kind, path=front.access_log, log_format=form)]


def tracing(front: Front) -> Config:
    """Without a collector a client's `traceparent` passes through as it is, and no span is made."""
    if front.otlp is None:
        return {}
    uri = {"uri": f"http://{front.otlp}/v1/traces", "cluster": OTLP, "timeout": "1s"}
    config = {"http_service": {"http_uri": uri}, "service_name": "asr-front"}
    provider = typed("envoy.tracers.opentelemetry", "envoy.config.trace.v3.OpenTelemetryConfig", **config)
    # A span of its own for each attempt at a replica: a retry is seen, and the service's parent is the attempt that reached it.
    return {"tracing": {"provider": provider, "spawn_upstream_span": True}}


def labels() -> list[Config]:
    """What of a metric's name becomes a label. Not all of Envoy's own: those for gRPC expect a service's name without dots."""
    own = ("cluster_name", "http_conn_manager_prefix", "listener_address", "local_http_ratelimit_prefix")
    codes = ("response_code", "response_code_class")
    before, service = r"^cluster\.[^.]+\.grpc\.", re.escape(SERVICE_NAME)
    return [
        *({"tag_name": f"envoy.{name}"} for name in own + codes),
        {"tag_name": "grpc_service", "regex": rf"{before}(({service})\.)"},
        {"tag_name": "grpc_method", "regex": rf"{before}{service}\.((\w+)\.)"},
    ]
