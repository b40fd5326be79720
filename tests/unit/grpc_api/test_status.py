from collections.abc import Iterator

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from asr_service.errors import AsrError, InvalidValue, Overloaded
from asr_service.grpc_api.status import status_code, to_rich_status, to_stream_error


def tree(root: type[AsrError] = AsrError) -> Iterator[type[AsrError]]:
    for child in root.__subclasses__():
        yield child
        yield from tree(child)


@pytest.mark.parametrize("kind", sorted(set(tree()), key=str), ids=str)
def test_every_error_has_a_real_status_and_a_reason(kind: type[AsrError]) -> None:
    assert grpc.StatusCode[kind.status] not in (grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN)
    assert kind.reason.isupper()


def details(error: AsrError) -> dict[str, object]:
    rich = to_rich_status(error, "req_1")
    packed = dict(rich.trailing_metadata)["grpc-status-details-bin"]
    unpacked: dict[str, object] = {}
    for detail in status_pb2.Status.FromString(packed).details:
        message = getattr(error_details_pb2, detail.type_url.rpartition(".")[2])()
        detail.Unpack(message)
        unpacked[type(message).__name__] = message
    return unpacked


def test_overload_carries_when_to_come_back() -> None:
    error = Overloaded("128 requests are already inside (limit 128)", retry_after_s=1.5)

    found = details(error)

    assert status_code(error) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert set(found) == {"ErrorInfo", "RetryInfo", "QuotaFailure"}
    retry = found["RetryInfo"]
    assert isinstance(retry, error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 1500
    assert to_stream_error(error).retry_after_ms == 1500


def test_a_bad_field_is_named() -> None:
    error = InvalidValue.of("config.temperature", "2 is outside 0 to 1")

    found = details(error)

    info, request = found["ErrorInfo"], found["BadRequest"]
    assert isinstance(info, error_details_pb2.ErrorInfo)
    assert isinstance(request, error_details_pb2.BadRequest)
    assert (info.reason, info.domain, info.metadata["request_id"]) == ("INVALID_VALUE", "asr.v1", "req_1")
    assert request.field_violations[0].field == "config.temperature"
    assert not to_stream_error(error).HasField("retry_after_ms")
