"""The error tree on the wire: one AsrError is one gRPC status with google.rpc details, or one StreamError event."""

from __future__ import annotations

import math
from dataclasses import dataclass

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from asr_service.errors import AsrError
from asr_service.pb.asr.v1 import transcript_pb2

DOMAIN = "asr.v1"
"""ErrorInfo.domain of every error."""


def status_code(error: AsrError) -> grpc.StatusCode:
    return grpc.StatusCode[error.status]


@dataclass(frozen=True, slots=True)
class RichStatus(grpc.Status):
    """A status as an RPC is aborted with it."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def to_rich_status(error: AsrError, request_id: str) -> RichStatus:
    """The error with ErrorInfo and, where they apply, RetryInfo, QuotaFailure and BadRequest. Aborting with it replaces the
    trailing metadata set before, so the request id is in it too."""
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata={"request_id": request_id})
    ]
    if error.retry_after_s is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(retry_after_ms(error) or 0)
        details.append(retry)
    if error.status == "RESOURCE_EXHAUSTED":
        violation = error_details_pb2.QuotaFailure.Violation(subject="server", description=error.message)
        details.append(error_details_pb2.QuotaFailure(violations=[violation]))
    if error.violations:
        fields = [
            error_details_pb2.BadRequest.FieldViolation(field=v.field, description=v.description) for v in error.violations
        ]
        details.append(error_details_pb2.BadRequest(field_violations=fields))
    status = status_pb2.Status(code=status_code(error).value[0], message=error.message, details=[_any(d) for d in details])
    trailing = tuple(rpc_status.to_status(status).trailing_metadata)
    return RichStatus(status_code(error), error.message, (*trailing, ("x-request-id", request_id)))


def to_stream_error(error: AsrError) -> transcript_pb2.StreamError:
    """The same failure as the last event of a stream."""
    return transcript_pb2.StreamError(
        status=error.status,
        reason=error.reason,
        message=error.message,
        retry_after_ms=retry_after_ms(error),
        field_violations=[transcript_pb2.FieldViolation(field=v.field, description=v.description) for v in error.violations],
    )


def retry_after_ms(error: AsrError) -> int | None:
    return None if error.retry_after_s is None else max(1, math.ceil(error.retry_after_s * 1000))


def _any(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
