"""Which request goes where, how often it may be tried, and how long it may be silent.

Nothing has a total time: `timeout` is zero everywhere. A caller's deadline (`grpc-timeout`) travels on as it is, and the
service ends its calls by it. What stays is how long a call may be without a byte in either direction.
"""

from __future__ import annotations

from envoy.clusters import BRIDGES, SERVICES, SESSIONS
from envoy.filters import CORS, JSON_LIMIT_BYTES, RATE_LIMIT, TRANSCODER, cors_policy, disabled, transcoder
from envoy.front import Config, Front

SERVICE = "/asr.v1.AsrService/"
_HEALTH = "/grpc.health.v1.Health/"
_REFLECTION = "/grpc.reflection."
_STREAMS = ("TranscribeUpload", "Subtitles")
_HOUR = "3600s"


def public_routes(front: Front) -> Config:
    """The first that matches counts."""
    routes = [*_grpc(), *_json(front), _refused("/metrics"), *_bridge()]
    host: Config = {"name": "everything", "domains": ["*"], "routes": routes}
    if front.origins:
        host["typed_per_filter_config"] = {CORS: cors_policy(front.origins)}
    return {"name": "public", "virtual_hosts": [host]}


def internal_routes() -> Config:
    """For the bridges: what a gRPC client may do, balanced and tried again in the same way."""
    return {"name": "internal", "virtual_hosts": [{"name": "services", "domains": ["*"], "routes": _grpc()}]}


def _grpc() -> list[Config]:
    """gRPC and gRPC-Web. The paths say enough; a matcher for gRPC would miss gRPC-Web and its preflights."""
    live = {"path": f"{SERVICE}StreamTranscribe"}
    has_session = {"headers": [{"name": "x-session-id", "present_match": True}]}
    by_session = {"hash_policy": [{"header": {"header_name": "x-session-id"}}]}
    is_grpc = {"headers": [{"name": "content-type", "string_match": {"prefix": "application/grpc"}}]}
    return [
        _route("live_sessions", live | has_session, _stream(SESSIONS) | by_session),
        _route("live", live, _stream(SERVICES)),
        *(_route(name, {"path": SERVICE + name}, _stream(SERVICES)) for name in _STREAMS),
        _unary_route("unary", {"prefix": SERVICE}),
        _route("health", {"prefix": _HEALTH}, _stream(SERVICES), {RATE_LIMIT: disabled()}),
        _route("reflection", {"prefix": _REFLECTION}, _stream(SERVICES)),
        _route("unknown_grpc", {"prefix": "/"} | is_grpc, _stream(SERVICES)),  # the service says so in gRPC's words
    ]


def _json(front: Front) -> list[Config]:
    """Matched on the original path. Streams are lines of JSON, or events where these are asked for."""
    wants_events = {"headers": [{"name": "accept", "string_match": {"contains": "text/event-stream"}}]}
    events = {TRANSCODER: transcoder(front, as_events=True)}
    streams = ("/asr/v1/transcribe:", "/asr/v1/subtitles")
    return [
        *(_route("json_events", {"prefix": path} | wants_events, _stream(SERVICES), events) for path in streams),
        *(_route("json_streams", {"prefix": path}, _stream(SERVICES)) for path in streams),
        _unary_route("json", {"prefix": "/asr/"}),
    ]


def _bridge() -> list[Config]:
    """All other paths. A body is repeated at another bridge as long as all of it is still here, which large uploads' is not."""
    action = _action(BRIDGES, _HOUR)
    off = {TRANSCODER: disabled()}
    probes = [_route("probes", {"path": path}, action, off | {RATE_LIMIT: disabled()}) for path in ("/health", "/ready")]
    return [*probes, _route("bridge", {"prefix": "/"}, action, off)]


def _refused(path: str) -> Config:
    """The bridges have it, and not for everybody."""
    return {"name": "refused", "match": {"path": path}, "direct_response": {"status": 404}} | {
        "typed_per_filter_config": {TRANSCODER: disabled()}
    }


def _unary_route(name: str, match: Config) -> Config:
    """A call is tried again only while its whole body is still here, so a recording in one message must fit."""
    return _route(name, match, _unary()) | {"request_body_buffer_limit": JSON_LIMIT_BYTES}


def _route(name: str, match: Config, action: Config, filters: Config | None = None) -> Config:
    made: Config = {"name": name, "match": match, "route": action}
    return made | {"typed_per_filter_config": filters} if filters else made


def _stream(cluster: str) -> Config:
    """Silence is no fault: somebody may listen for hours. Who is gone is found by pings, and the service has its own limits."""
    return _action(cluster, "0s")


def _unary() -> Config:
    """An hour without a byte is longer than any deadline that the service gives by itself: a replica that hangs."""
    return _action(SERVICES, _HOUR)


def _action(cluster: str, idle: str) -> Config:
    return {"cluster": cluster, "timeout": "0s", "idle_timeout": idle, "retry_policy": _retry()}


def _retry() -> Config:
    """Only while nothing was answered. All calls may then be repeated, even if a replica died in the middle of one (`reset`):
    they change nothing, and a live session that began has been answered. UNAVAILABLE is the service's word for "elsewhere"."""
    previous = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
    return {
        "retry_on": "connect-failure,refused-stream,reset,unavailable",
        "num_retries": 5,
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": f"type.googleapis.com/{previous}"},
            }
        ],
        # A dead replica has no calls inside, so the least loaded of two is often the dead one again. At the default of one more
        # look, or at five, calls failed when one of two replicas was killed.
        "host_selection_retry_max_attempts": 30,
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
    }
