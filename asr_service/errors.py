"""Everything that can go wrong and that a client hears of, as one tree.

    AsrError                         status               reason
    |- InvalidValue                  INVALID_ARGUMENT     INVALID_VALUE
    |  |- MessageOrder               INVALID_ARGUMENT     MESSAGE_ORDER
    |  |- UnknownLanguage            INVALID_ARGUMENT     UNKNOWN_LANGUAGE
    |  |- AudioEmpty                 INVALID_ARGUMENT     AUDIO_EMPTY
    |  |- AudioUndecodable           INVALID_ARGUMENT     AUDIO_UNDECODABLE
    |  |- AudioTruncated             INVALID_ARGUMENT     AUDIO_TRUNCATED
    |  `- AudioTooLarge              INVALID_ARGUMENT     AUDIO_TOO_LARGE
    |- ModelNotFound                 NOT_FOUND            MODEL_NOT_FOUND
    |- FeatureUnavailable            FAILED_PRECONDITION  FEATURE_UNAVAILABLE
    |  `- LanguageUnavailable        FAILED_PRECONDITION  LANGUAGE_UNAVAILABLE
    |- ResumeWindowGone              OUT_OF_RANGE         RESUME_WINDOW_GONE
    |- SessionTaken                  ABORTED              SESSION_TAKEN
    |- Overloaded                    RESOURCE_EXHAUSTED   OVERLOADED            + retry_after_s
    |  |- SlowConsumer               RESOURCE_EXHAUSTED   SLOW_CONSUMER
    |  `- EngineMemory               RESOURCE_EXHAUSTED   ENGINE_MEMORY
    |- Unavailable                   UNAVAILABLE          one of the below      + retry_after_s
    |  |- Draining                   UNAVAILABLE          DRAINING
    |  |- Starting                   UNAVAILABLE          STARTING
    |  |- EngineRestarting           UNAVAILABLE          ENGINE_RESTARTING
    |  |- EngineGone                 UNAVAILABLE          ENGINE_FAILED
    |  `- DecoderRestarting          UNAVAILABLE          DECODER_RESTARTING
    |- DeadlineExceeded              DEADLINE_EXCEEDED    DEADLINE
    |  `- UploadIdle                 DEADLINE_EXCEEDED    UPLOAD_IDLE
    |- Unauthenticated               UNAUTHENTICATED      API_KEY_MISSING or API_KEY_INVALID
    |- NotImplementedYet             UNIMPLEMENTED        NOT_IMPLEMENTED
    `- InternalError                 INTERNAL             INTERNAL

Messages are for people and name the value and the limit. A class is one status and one reason; the edge maps it once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Violation:
    """A field that was refused: its path in the request and what would be right."""

    field: str
    description: str


class AsrError(Exception):
    """Root of the tree; never raised itself."""

    status: ClassVar[str] = "INTERNAL"
    reason: str = "INTERNAL"

    def __init__(self, message: str, *, retry_after_s: float | None = None, violations: tuple[Violation, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.violations = violations


class InvalidValue(AsrError):
    """A field has a value that can never be right. `InvalidValue.of(field, description)` names it."""

    status = "INVALID_ARGUMENT"
    reason = "INVALID_VALUE"

    @classmethod
    def of(cls, field: str, description: str) -> InvalidValue:
        return cls(f"{field}: {description}", violations=(Violation(field, description),))


class MessageOrder(InvalidValue):
    """A message came where the contract does not allow it."""

    reason = "MESSAGE_ORDER"


class UnknownLanguage(InvalidValue):
    """No language has this code or name."""

    reason = "UNKNOWN_LANGUAGE"


class AudioEmpty(InvalidValue):
    """There are no bytes, or a container without a single sample."""

    reason = "AUDIO_EMPTY"


class AudioUndecodable(InvalidValue):
    """The bytes are no audio that can be read; the message says what they look like."""

    reason = "AUDIO_UNDECODABLE"


class AudioTruncated(InvalidValue):
    """The source ends before its header says it should."""

    reason = "AUDIO_TRUNCATED"


class AudioTooLarge(InvalidValue):
    """More bytes, seconds or channels than the server takes."""

    reason = "AUDIO_TOO_LARGE"


class ModelNotFound(AsrError):
    """No model has this id."""

    status = "NOT_FOUND"
    reason = "MODEL_NOT_FOUND"


class FeatureUnavailable(AsrError):
    """The loaded engine cannot do what was asked for."""

    status = "FAILED_PRECONDITION"
    reason = "FEATURE_UNAVAILABLE"


class LanguageUnavailable(FeatureUnavailable):
    """A known language that the loaded engine does not speak."""

    reason = "LANGUAGE_UNAVAILABLE"


class ResumeWindowGone(AsrError):
    """A session cannot be gone on with: it is not known any more, or not all that the client lacks is kept."""

    status = "OUT_OF_RANGE"
    reason = "RESUME_WINDOW_GONE"


class SessionTaken(AsrError):
    """The session goes on at another connection, which resumed it."""

    status = "ABORTED"
    reason = "SESSION_TAKEN"


class Overloaded(AsrError):
    """The server is full; the same call may succeed after retry_after_s."""

    status = "RESOURCE_EXHAUSTED"
    reason = "OVERLOADED"


class SlowConsumer(Overloaded):
    """The client does not read what it asked for, and holds places that others wait for."""

    reason = "SLOW_CONSUMER"


class EngineMemory(Overloaded):
    """The device has no memory for this segment, though everything else was put aside for it."""

    reason = "ENGINE_MEMORY"


class Unavailable(AsrError):
    """The call was not served and is safe to send again after retry_after_s."""

    status = "UNAVAILABLE"
    reason = "UNAVAILABLE"


class Draining(Unavailable):
    """The server is shutting down."""

    reason = "DRAINING"


class Starting(Unavailable):
    """The server is not warm yet."""

    reason = "STARTING"


class EngineRestarting(Unavailable):
    """The recogniser crashed under this call and is being restarted."""

    reason = "ENGINE_RESTARTING"


class EngineGone(Unavailable):
    """The recogniser cannot be started any more; another replica may serve the call."""

    reason = "ENGINE_FAILED"


class DecoderRestarting(Unavailable):
    """The audio decoder crashed under this call and is being restarted."""

    reason = "DECODER_RESTARTING"


class DeadlineExceeded(AsrError):
    """The client's deadline, or the server's default one, passed."""

    status = "DEADLINE_EXCEEDED"
    reason = "DEADLINE"


class UploadIdle(DeadlineExceeded):
    """An upload brought no bytes for too long."""

    reason = "UPLOAD_IDLE"


class Unauthenticated(AsrError):
    """The API key is missing or wrong."""

    status = "UNAUTHENTICATED"

    def __init__(self, message: str, *, missing: bool) -> None:
        super().__init__(message)
        self.reason = "API_KEY_MISSING" if missing else "API_KEY_INVALID"


class NotImplementedYet(AsrError):
    """The contract has it, this version does not; the message says so plainly."""

    status = "UNIMPLEMENTED"
    reason = "NOT_IMPLEMENTED"


class InternalError(AsrError):
    """Our own fault. The message says nothing about the inside; the log does, under the request id."""
