"""The decoder process dies or hangs under a caller: one clear answer, and the next caller is served."""

from __future__ import annotations

import grpc
import pytest

from tests.wire.conftest import request, served, speech
from tests.wire.test_transcribe import reason_of


@pytest.mark.parametrize("failpoint", ["decode.source=crash*1", "decode.block=crash*1"])
async def test_a_decoder_that_dies_is_a_retryable_answer_and_is_replaced(failpoint: str) -> None:
    async with served(failpoints=failpoint, decode_workers=1) as service:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.stub.Transcribe(request(speech()))

        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert reason_of(caught.value) == "DECODER_RESTARTING"


async def test_a_decoder_that_hangs_does_not_outlive_the_deadline_of_its_caller() -> None:
    async with served(failpoints="decode.source=hang", decode_workers=1) as service:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.stub.Transcribe(request(speech()), timeout=1.0)

        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
