"""The two ports: one for everybody, one for the bridges."""

from __future__ import annotations

from envoy.filters import CLIENT_ID, internal_filters, public_filters
from envoy.front import Address, Config, Front, Tls, message, typed
from envoy.observing import access_log, tracing
from envoy.replies import local_replies
from envoy.routes import internal_routes, public_routes

_MIB = 1024 * 1024


def listeners(front: Front) -> list[Config]:
    public = {
        # Nobody's address makes him one of us: the headers with which insiders steer retries and times are taken away.
        "internal_address_config": {},
        "early_header_mutation_extensions": [_without(CLIENT_ID)],
        "use_remote_address": True,  # the peer is the client, whatever x-forwarded-for says
        # Routes and rules are of the path that the upstream will see. Ids of models have slashes, escaped or not.
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD",
        "request_headers_timeout": "10s",  # the default lets a header take for ever
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "local_reply_config": local_replies(),
        "http_filters": public_filters(front),
        "route_config": public_routes(front),
    }
    if front.tls is not None and front.tls.client_ca:
        public |= {
            "forward_client_cert_details": "SANITIZE_SET",
            "set_current_client_cert_details": {"subject": True, "uri": True},
        }
    internal = {"http_filters": internal_filters(), "route_config": internal_routes()}
    return [
        _listener("public", front.public, front, public, _tls(front.tls) if front.tls else {}),
        _listener("internal", front.internal, front, internal, {}),
    ]


def _listener(name: str, address: Address, front: Front, more: Config, socket: Config) -> Config:
    connections = typed(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        http2_protocol_options={
            # What one connection may keep here. The defaults are 256 MiB, of which a slow reader could take all.
            "initial_stream_window_size": _MIB,
            "initial_connection_window_size": 16 * _MIB,
            "connection_keepalive": {"interval": f"{front.ping_s}s", "timeout": f"{max(1, front.ping_s // 3)}s"},
        },
        # An id that comes with a call is the call's id, in all logs and in the answer's headers, and is not altered.
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        request_id_extension={
            "typed_config": message("envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig", pack_trace_reason=False)
        },
        access_log=access_log(front, name),
        **tracing(front),
        **more,
    )
    return {
        "name": name,
        "address": address.config,
        "per_connection_buffer_limit_bytes": _MIB,  # so much of an upload or of unread events waits here
        "socket_options": _tcp_keepalive(front.ping_s),
        "filter_chains": [{"filters": [connections], **socket}],
    }


def _tcp_keepalive(ping_s: int) -> list[Config]:
    """HTTP/1.1 and WebSockets have no pings of Envoy's; a peer that vanished is found by the kernel. Linux's numbers."""
    tcp = 6
    wanted = (
        (1, 9, 1),  # SO_KEEPALIVE
        (tcp, 4, ping_s),  # TCP_KEEPIDLE
        (tcp, 5, max(1, ping_s // 3)),  # TCP_KEEPINTVL
        (tcp, 6, 2),  # TCP_KEEPCNT
    )
    return [{"level": level, "name": name, "int_value": value, "state": "STATE_PREBIND"} for level, name, value in wanted]


def _tls(tls: Tls) -> Config:
    validation: Config = {}
    if tls.client_ca:
        validation["trusted_ca"] = {"filename": tls.client_ca}
    if tls.client_name:
        validation["match_typed_subject_alt_names"] = [{"san_type": "URI", "matcher": {"exact": tls.client_name}}]
    common: Config = {
        "alpn_protocols": ["h2", "http/1.1"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
        "tls_certificates": [
            {"certificate_chain": {"filename": tls.certificate}, "private_key": {"filename": tls.key}},
        ],
    }
    if validation:
        common["validation_context"] = validation
    kind = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
    context = typed(
        "envoy.transport_sockets.tls", kind, require_client_certificate=bool(tls.client_ca), common_tls_context=common
    )
    return {"transport_socket": context}


def _without(header: str) -> Config:
    kind = "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation"
    return typed("envoy.http.early_header_mutation.header_mutation", kind, mutations=[{"remove": header}])
