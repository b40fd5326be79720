"""What a client hears when something fails: one table from the service's status and reason to HTTP and OpenAI's error body.

UpstreamError   the service said no, or could not be reached
HttpError       an answer that is an error, ready to be sent
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

INVALID = "invalid_request_error"
SERVER = "server_error"
RATE_LIMIT = "rate_limit_error"

_NO_RETRY = {"x-should-retry": "false"}


class UpstreamError(Exception):
    """A call to the service failed. `reason` is empty where the status did not come from the service itself."""

    def __init__(
        self,
        status: str,
        message: str,
        *,
        reason: str = "",
        retry_after_s: float | None = None,
        fields: tuple[str, ...] = (),
    ) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.message = message
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.fields = fields

    @property
    def is_safe_to_repeat(self) -> bool:
        """Nothing was answered and another replica, or the same one a moment later, may."""
        return self.status == "UNAVAILABLE" or (self.status == "CANCELLED" and not self.reason)


class HttpError(Exception):
    """An error answer. Its message is for the client."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, dict[str, str | None]]:
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def invalid_value(param: str | None, message: str) -> HttpError:
    """A form field has a value that can never be right."""
    return HttpError(400, message, code="invalid_value", param=param)


def file_too_large(n_bytes: int, limit_bytes: int) -> HttpError:
    message = f"the upload has {n_bytes} bytes or more (limit {limit_bytes})"
    return HttpError(413, message, code="file_too_large", param="file")


def internal_error() -> HttpError:
    """Our own fault: nothing about the inside is said; the log has it under the request id."""
    return HttpError(500, "internal error; the log has the details under this request id", kind=SERVER, code="internal_error")


@dataclass(frozen=True, slots=True)
class _Rule:
    status: int
    kind: str
    code: str
    param: str | None = None
    message: str = ""  # replaces the service's, which then is not meant for clients
    headers: Mapping[str, str] = field(default_factory=dict)
    says_when: bool = False  # carries Retry-After


_OVERLOADED = _Rule(429, RATE_LIMIT, "rate_limit_exceeded", says_when=True)
_UNAVAILABLE = _Rule(503, SERVER, "overloaded", says_when=True)

_BY_REASON = {
    "INVALID_VALUE": _Rule(400, INVALID, "invalid_value"),
    "UNKNOWN_LANGUAGE": _Rule(400, INVALID, "invalid_value", "language"),
    "AUDIO_EMPTY": _Rule(400, INVALID, "audio_too_short", "file"),
    "AUDIO_UNDECODABLE": _Rule(400, INVALID, "unsupported_format", "file"),
    "AUDIO_TRUNCATED": _Rule(400, INVALID, "corrupt_audio", "file"),
    "AUDIO_TOO_LARGE": _Rule(413, INVALID, "file_too_large", "file"),
    "MODEL_NOT_FOUND": _Rule(404, INVALID, "model_not_found", "model"),
    "FEATURE_UNAVAILABLE": _Rule(400, INVALID, "feature_unavailable", headers=_NO_RETRY),
    "LANGUAGE_UNAVAILABLE": _Rule(400, INVALID, "language_unavailable", "language", headers=_NO_RETRY),
    "OVERLOADED": _OVERLOADED,
    "ENGINE_MEMORY": _OVERLOADED,
    "DEADLINE": _Rule(504, SERVER, "timeout"),
    "UPLOAD_IDLE": _Rule(408, INVALID, "upload_idle", "file"),
    "API_KEY_MISSING": _Rule(401, INVALID, "invalid_api_key"),
    "API_KEY_INVALID": _Rule(401, INVALID, "invalid_api_key"),
    "NOT_IMPLEMENTED": _Rule(501, SERVER, "not_implemented", headers=_NO_RETRY),
    "MESSAGE_ORDER": _Rule(500, SERVER, "internal_error", message="the bridge and the service disagree about the protocol"),
}

_BY_STATUS = {
    "INVALID_ARGUMENT": _Rule(400, INVALID, "invalid_value"),
    "OUT_OF_RANGE": _Rule(400, INVALID, "invalid_value"),
    "FAILED_PRECONDITION": _Rule(400, INVALID, "feature_unavailable", headers=_NO_RETRY),
    "NOT_FOUND": _Rule(404, INVALID, "not_found"),
    "UNAUTHENTICATED": _Rule(401, INVALID, "invalid_api_key"),
    "PERMISSION_DENIED": _Rule(403, INVALID, "invalid_api_key"),
    "RESOURCE_EXHAUSTED": _OVERLOADED,
    "UNAVAILABLE": _UNAVAILABLE,
    "CANCELLED": _UNAVAILABLE,
    "DEADLINE_EXCEEDED": _Rule(504, SERVER, "timeout", message="the speech service did not answer in time"),
    "UNIMPLEMENTED": _Rule(501, SERVER, "not_implemented", message="the speech service does not offer this", headers=_NO_RETRY),
}

_UNKNOWN = _Rule(
    500, SERVER, "internal_error", message="the speech service failed; its log has the details under this request id"
)

# Where the fields of the contract come from in the form; the longest match counts.
_PARAMS = {
    "config.model": "model",
    "config.language": "language",
    "config.candidate_languages": "languages[]",
    "config.context": "prompt",
    "config.phrases": "keywords[]",
    "config.temperature": "temperature",
    "config.word_times": "timestamp_granularities[]",
    "config.word_confidence": "timestamp_granularities[]",
    "config.voice_activity": "chunking_strategy",
    "audio": "file",
    "format": "file",
}


def form_name(path: str) -> str:
    """The form field that a field of the contract was made from; the path itself where there is none."""
    return next((name for prefix, name in _PARAMS.items() if path.startswith(prefix)), path)


def from_upstream(error: UpstreamError) -> HttpError:
    """The HTTP answer for a failed call."""
    rule = _BY_REASON.get(error.reason) or _BY_STATUS.get(error.status, _UNKNOWN)
    message = rule.message or error.message
    if rule is _UNAVAILABLE and not error.reason:
        message = "the speech service cannot be reached at the moment"
    headers = dict(rule.headers)
    if rule.says_when:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s or 0)))
    param = form_name(error.fields[0]) if error.fields else rule.param
    return HttpError(rule.status, message, kind=rule.kind, code=rule.code, param=param, headers=headers)
