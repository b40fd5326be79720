"""What Envoy says itself, without a service: refusals, unknown paths, nobody there.

gRPC callers get a status with a plain message, all others JSON: google.rpc.Status under /asr/, OpenAI's error body elsewhere.
"""

from __future__ import annotations

from envoy.front import Config

_TEXT = "%LOCAL_REPLY_BODY%"

# HTTP status: code of google.rpc.Code; OpenAI's type and code.
_MEANINGS = {
    400: (3, "invalid_request_error", "invalid_value"),
    401: (16, "invalid_request_error", "invalid_api_key"),
    403: (7, "invalid_request_error", "forbidden"),
    404: (5, "invalid_request_error", "unknown_url"),
    405: (12, "invalid_request_error", "method_not_allowed"),
    408: (4, "invalid_request_error", "timeout"),
    413: (8, "invalid_request_error", "file_too_large"),
    429: (8, "rate_limit_error", "rate_limit_exceeded"),
    501: (12, "server_error", "not_implemented"),
    503: (14, "server_error", "overloaded"),
    504: (4, "server_error", "timeout"),
}
_OTHER = (2, "server_error", "internal_error")


def local_replies() -> Config:
    """Of the mappers the first that fits counts."""
    mappers = [_plain_for_grpc()]
    for status, meaning in _MEANINGS.items():
        mappers += [_mapper([_is(status), _is_transcoded()], _google(meaning)), _mapper([_is(status)], _openai(meaning))]
    mappers.append(_mapper([_is_transcoded(), _any_status()], _google(_OTHER)))
    return {"mappers": mappers, "body_format": _json(_openai(_OTHER))}


def _plain_for_grpc() -> Config:
    """A transcoded call looks like gRPC by the time its body is found to be bad; its original path gives it away."""
    is_grpc = _header("content-type", string_match={"prefix": "application/grpc"})
    is_direct = _header("x-envoy-original-path", present_match=False)
    return {
        "filter": {"and_filter": {"filters": [is_grpc, is_direct]}},
        "body_format_override": {"text_format_source": {"inline_string": _TEXT}},
    }


def _mapper(filters: list[Config], body: Config) -> Config:
    one = filters[0] if len(filters) == 1 else {"and_filter": {"filters": filters}}
    return {"filter": one, "body_format_override": _json(body)}


def _json(body: Config) -> Config:
    return {"content_type": "application/json", "json_format": body}


def _google(meaning: tuple[int, str, str]) -> Config:
    return {"code": meaning[0], "message": _TEXT, "details": []}


def _openai(meaning: tuple[int, str, str]) -> Config:
    return {"error": {"message": _TEXT, "type": meaning[1], "param": None, "code": meaning[2]}}


def _is(status: int) -> Config:
    return _status("EQ", status)


def _any_status() -> Config:
    return _status("GE", 200)


def _status(op: str, status: int) -> Config:
    value = {"default_value": status, "runtime_key": f"front.unused.{op.lower()}.{status}"}
    return {"status_code_filter": {"comparison": {"op": op, "value": value}}}


def _is_transcoded() -> Config:
    original = _header("x-envoy-original-path", string_match={"prefix": "/asr/"})
    return {"or_filter": {"filters": [original, _header(":path", string_match={"prefix": "/asr/"})]}}


def _header(name: str, **match: object) -> Config:
    return {"header_filter": {"header": {"name": name, **match}}}
