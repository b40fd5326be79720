import pytest

from asr_service.grpc_api.call import Call


def test_the_clients_request_id_and_trace_are_kept() -> None:
    metadata = {"x-request-id": "mine-1", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}

    call = Call.of("Transcribe", metadata, 5.0)

    assert (call.request_id, call.trace_id) == ("mine-1", "0af7651916cd43dd8448eb211c80319c")
    assert call.deadline_s == call.arrival_s + 5.0


@pytest.mark.parametrize("given", ["", "x" * 129, "with space", "umläut", "new\nline"])
def test_an_id_that_cannot_travel_is_replaced(given: str) -> None:
    assert Call.of("Transcribe", {"x-request-id": given}, None).request_id.startswith("req_")


def test_no_deadline_stays_none() -> None:
    assert Call.of("Transcribe", {"traceparent": "nonsense"}, None).deadline_s is None
