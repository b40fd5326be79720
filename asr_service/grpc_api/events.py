"""The events of one upload on their way to the client."""

from __future__ import annotations

import asyncio
from typing import Any

from asr_service.engine.protocol import Engine
from asr_service.errors import SlowConsumer
from asr_service.grpc_api import convert
from asr_service.grpc_api.call import Call
from asr_service.grpc_api.interceptors import Context
from asr_service.pb.asr.v1 import transcribe_pb2, transcript_pb2
from asr_service.request import Cursors


class EventWriter:
    """Numbers, stamps and writes. A write that the client keeps waiting for `patience_s` raises SlowConsumer."""

    def __init__(self, call: Call, context: Context, patience_s: float) -> None:
        self._call = call
        self._context = context
        self._patience_s = patience_s
        self._seq = 0
        self.cursors = Cursors()

    async def started(self, effective: transcript_pb2.RecognitionConfig, engine: Engine) -> None:
        await self._context.send_initial_metadata(self._call.headers)
        described = convert.engine_message(engine.info)
        await self.write(started=transcribe_pb2.UploadStarted(effective_config=effective, engine=described))

    async def write(self, **event: Any) -> None:
        response = transcribe_pb2.TranscribeUploadResponse(
            seq=self._seq,
            request_id=self._call.request_id,
            cursors=convert.cursors_message(self.cursors),
            server_time=convert.now_message(),
            **event,
        )
        self._seq += 1
        try:
            async with asyncio.timeout(self._patience_s):
                await self._context.write(response)
        except TimeoutError:
            raise SlowConsumer(f"the client read no events for {self._patience_s:g} s (limit {self._patience_s:g} s)") from None
