"""What a client presents to go on with a session, here or at another replica.

The token carries the configuration, so that a replica that never heard of the session can go on with it. It holds nothing
that the client could not ask for anyway, and is read like any other input; what lets somebody into a session that is here is
its key.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from asr_service.errors import ResumeWindowGone
from asr_service.pb.asr.v1 import stream_pb2

_VERSION = 1
_MAX_CHARS = 100_000


@dataclass(frozen=True, slots=True)
class ResumeToken:
    """`instance` is the process that gave it out, `key` the session's secret there."""

    instance: str
    key: str
    session_id: str
    config: stream_pb2.SessionConfig

    def pack(self) -> str:
        """Printable ASCII."""
        fields = {
            "v": _VERSION,
            "instance": self.instance,
            "key": self.key,
            "session_id": self.session_id,
            "config": base64.b64encode(self.config.SerializeToString()).decode(),
        }
        return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()

    @classmethod
    def unpack(cls, token: str) -> ResumeToken:
        """Raises ResumeWindowGone for what is none."""
        try:
            if len(token) > _MAX_CHARS:
                raise ValueError("too long")  # noqa: TRY301
            fields = json.loads(base64.urlsafe_b64decode(token.encode("ascii")))
            if fields["v"] != _VERSION:
                raise ValueError("another version")  # noqa: TRY301
            config = stream_pb2.SessionConfig.FromString(base64.b64decode(fields["config"]))
            return cls(str(fields["instance"]), str(fields["key"]), str(fields["session_id"])[:128], config)
        except (ValueError, KeyError, TypeError, binascii.Error, DecodeError):
            raise ResumeWindowGone("resume_token: not a token of this service") from None
