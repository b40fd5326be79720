"""What parent and decoder process say to each other, as bytes.

Control socket, parent to process:   one line of JSON per source (`Job`), with the process's end of that source's own socket
Control socket, process to parent:   READY when started and after every source
Source's socket, parent to process:  the source's bytes, then end of file
Source's socket, process to parent:  frames: HEADER (kind, length), then `length` bytes
                                     BLOCK  float32 little-endian samples
                                     ERROR  JSON (`pack_error`); the last frame
                                     END    nothing; the last frame
                                     WAITS  COUNT: so many bytes were read, all that they give was sent, and no more are there
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass

from asr_service.audio.limits import AudioLimits
from asr_service.audio.source import Encoding, SourceFormat
from asr_service.errors import (
    AsrError,
    AudioEmpty,
    AudioTooLarge,
    AudioTruncated,
    AudioUndecodable,
    InvalidValue,
    Violation,
)

READY = b"."
HEADER = struct.Struct("<BI")
COUNT = struct.Struct("<Q")
BLOCK, ERROR, END, WAITS = 1, 2, 3, 4

_ERRORS: dict[str, type[AsrError]] = {
    kind.__name__: kind for kind in (InvalidValue, AudioEmpty, AudioUndecodable, AudioTruncated, AudioTooLarge)
}


@dataclass(frozen=True, slots=True)
class Job:
    """One source for a decoder process."""

    fmt: SourceFormat
    limits: AudioLimits
    live: bool = False

    def pack(self) -> bytes:
        fmt = asdict(self.fmt) | {"encoding": self.fmt.encoding.value, "content_type": self.fmt.content_type[:100]}
        return json.dumps({"fmt": fmt, "limits": asdict(self.limits), "live": self.live}).encode() + b"\n"

    @classmethod
    def unpack(cls, line: bytes) -> Job:
        fields = json.loads(line)
        fmt = fields["fmt"] | {"encoding": Encoding(fields["fmt"]["encoding"])}
        return cls(SourceFormat(**fmt), AudioLimits(**fields["limits"]), fields["live"])


def pack_error(error: InvalidValue) -> bytes:
    violations = [[violation.field, violation.description] for violation in error.violations]
    return json.dumps([type(error).__name__, error.message, violations]).encode()


def unpack_error(payload: bytes) -> AsrError:
    name, message, violations = json.loads(payload)
    return _ERRORS[name](message, violations=tuple(Violation(*violation) for violation in violations))
