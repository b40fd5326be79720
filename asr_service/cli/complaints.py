"""One clear line about what went wrong with a file."""

from __future__ import annotations

from asr_service.client import UNREACHABLE, AsrClientError

_PREFIXES = {
    "AUDIO_UNDECODABLE": "not audio",
    "AUDIO_EMPTY": "empty",
    "AUDIO_TRUNCATED": "cut short",
    "AUDIO_TOO_LARGE": "too large",
    "OVERLOADED": "the service is busy",
    "DRAINING": "the service is shutting down",
    "STARTING": "the service is starting",
    UNREACHABLE: "the service cannot be reached",
    "API_KEY_MISSING": "the service wants a key (--api-key)",
    "API_KEY_INVALID": "the service refused the key",
}


def complaint(error: AsrClientError | OSError) -> str:
    """What to print after the file's name."""
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    message = " ".join(error.message.split())
    prefix = _PREFIXES.get(error.reason, "")
    line = f"{prefix}: {message}" if prefix and not message.lower().startswith(prefix) else message
    if error.retry_after_s is not None:
        line += f" (try again in {error.retry_after_s:g} s)"
    return line
