"""What each request passes through, in order."""

from __future__ import annotations

from envoy.descriptors import METHODS, SERVICE_NAME
from envoy.front import Config, Front, Jwt, RateLimit, message, typed

CORS = "envoy.filters.http.cors"
RATE_LIMIT = "envoy.filters.http.local_ratelimit"
TRANSCODER = "envoy.filters.http.grpc_json_transcoder"

CLIENT_ID = "x-client-id"
"""Who a token says it is; from clients it is never taken."""

JSON_LIMIT_BYTES = 64 * 1024 * 1024
"""Of a recording in one JSON message: 48 MiB of sound. The service's limit (MAX_INLINE_BYTES) is lower, and said better."""

_EXT = "envoy.extensions.filters.http"
_CLIENTS = 10_000


def public_filters(front: Front) -> list[Config]:
    made = [
        typed(CORS, f"{_EXT}.cors.v3.Cors"),  # preflights have no token and cost nothing
        typed("envoy.filters.http.grpc_web", f"{_EXT}.grpc_web.v3.GrpcWeb"),
    ]
    if front.jwt is not None:
        made.append(_jwt(front.jwt))
    if front.rate_limit is not None:
        made.append(_rate_limit(front.rate_limit, by_token=front.jwt is not None))
    return [*made, {"name": TRANSCODER, "typed_config": transcoder(front)}, _grpc_stats(), _router()]


def internal_filters() -> list[Config]:
    return [_grpc_stats(), _router()]


def disabled() -> Config:
    """A filter that a route does without."""
    return message("envoy.config.route.v3.FilterConfig", disabled=True)


def cors_policy(origins: tuple[str, ...]) -> Config:
    matchers = [{"safe_regex": {"regex": ".*"}} if origin == "*" else {"exact": origin} for origin in origins]
    request = "authorization,content-type,grpc-timeout,traceparent,tracestate,x-api-key,x-grpc-web,x-request-id,x-session-id"
    answer = "grpc-message,grpc-status,grpc-status-details-bin,retry-after,x-request-id,x-session-id"
    return message(
        f"{_EXT}.cors.v3.CorsPolicy",
        allow_origin_string_match=matchers,
        allow_methods="GET, POST, OPTIONS",
        allow_headers=f"{request},x-user-agent",
        expose_headers=answer,
        max_age="600",
    )


def transcoder(front: Front, *, as_events: bool = False) -> Config:
    """Between JSON and gRPC. Bodies of HttpBody stream through; only a JSON message is held whole."""
    streaming = "stream_sse_style_delimited" if as_events else "stream_newline_delimited"
    return message(
        f"{_EXT}.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor=front.descriptors,
        services=[SERVICE_NAME],
        convert_grpc_status=True,  # errors are google.rpc.Status in JSON, not headers
        max_request_body_size=JSON_LIMIT_BYTES,
        max_response_body_size=JSON_LIMIT_BYTES,
        match_incoming_request_route=True,  # routes are those of the path that the client knows
        # A misspelt path or parameter is an error and not an empty configuration.
        request_validation_options={"reject_unknown_method": True, "reject_unknown_query_parameters": True},
        print_options={"always_print_primitive_fields": True, streaming: True},  # a zero is an answer
    )


def _jwt(jwt: Jwt) -> Config:
    provider = {
        "issuer": jwt.issuer,
        "audiences": [jwt.audience],
        "local_jwks": {"inline_string": jwt.jwks},
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "forward": False,  # it has done its work, and services log headers less carefully than they keep keys
        "claim_to_headers": [{"header_name": CLIENT_ID, "claim_name": "sub"}],
        "require_expiration": True,  # what never ends cannot be taken back
    }
    open_to_all = [{"prefix": "/grpc.health.v1.Health/"}, {"path": "/health"}, {"path": "/ready"}]
    rules = [{"match": match} for match in open_to_all]
    return typed(
        "envoy.filters.http.jwt_authn",
        f"{_EXT}.jwt_authn.v3.JwtAuthentication",
        providers={"issuer": provider},
        rules=[*rules, {"match": {"prefix": "/"}, "requires": {"provider_name": "issuer"}}],
        bypass_cors_preflight=True,
    )


def _rate_limit(limit: RateLimit, *, by_token: bool) -> Config:
    """A bucket for each client, of the latest so many. Of this Envoy alone: two in front let through twice as much."""
    bucket = {"max_tokens": limit.burst, "tokens_per_fill": limit.per_second, "fill_interval": "1s"}
    everybody = {"max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s"}
    action = (
        {"request_headers": {"header_name": CLIENT_ID, "descriptor_key": "client"}}
        if by_token
        else {"remote_address": {}}  # its key is remote_address
    )
    on = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return typed(
        RATE_LIMIT,
        f"{_EXT}.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="clients",
        token_bucket=everybody,  # for whom no bucket below is meant: nobody, but one has to be said
        always_consume_default_token_bucket=False,
        filter_enabled=on,
        filter_enforced=on,
        rate_limits=[{"actions": [action]}],
        descriptors=[{"entries": [{"key": "client" if by_token else "remote_address"}], "token_bucket": bucket}],
        max_dynamic_descriptors=_CLIENTS,
        rate_limited_as_resource_exhausted=True,  # the default, UNAVAILABLE, is an invitation to try again at once
        enable_x_ratelimit_headers="DRAFT_VERSION_03",
        response_headers_to_add=[
            {"header": {"key": "retry-after", "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
        ],
    )


def _grpc_stats() -> Config:
    """Counts by method; only of those that exist, or a client could make up as many names as it likes."""
    methods = {"services": [{"name": SERVICE_NAME, "method_names": list(METHODS)}]}
    return typed(
        "envoy.filters.http.grpc_stats",
        f"{_EXT}.grpc_stats.v3.FilterConfig",
        individual_method_stats_allowlist=methods,
        enable_upstream_stats=True,
    )


def _router() -> Config:
    return typed("envoy.filters.http.router", f"{_EXT}.router.v3.Router")
