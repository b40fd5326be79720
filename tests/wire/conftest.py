"""A whole service on a free port, with the fake recogniser under the test's control, real decoders and a real detector."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pytest

from asr_service.app import Running, serving
from asr_service.config import Settings
from asr_service.engine.fake import FakeControls, fake_engine
from asr_service.pb.asr.v1 import audio_pb2, transcribe_pb2
from asr_service.pb.asr.v1.asr_pb2_grpc import AsrServiceStub

if TYPE_CHECKING:
    from asr_service.pb.asr.v1.asr_pb2_grpc import AsrServiceAsyncStub  # exists in the stub file only

SAMPLE = Path(__file__).parents[1] / "data" / "sample.flac"
PCM = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=16000)


@dataclass(frozen=True)
class Served:
    """A running service and a client of it."""

    running: Running
    stub: AsrServiceAsyncStub
    channel: grpc.aio.Channel
    controls: FakeControls


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[Served]:
    controls = FakeControls()
    chosen = {"grpc_port": 0, "metrics_enabled": False, "drain_timeout": 5.0, "decode_workers": 4} | settings
    slots = chosen.pop("slots", 2)
    idle_timeout_s = chosen.get("idle_timeout", 0.0)

    def make_engine(_: Settings, metrics: Any) -> Any:
        return fake_engine(metrics, slots=slots, idle_timeout_s=idle_timeout_s, controls=controls)

    async with serving(Settings.load(**chosen), make_engine=make_engine) as running:
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        async with grpc.aio.insecure_channel(running.address, options=options) as channel:
            stub: Any = AsrServiceStub(channel)
            yield Served(running, stub, channel, controls)
            controls.release()


@pytest.fixture
async def service() -> AsyncIterator[Served]:
    async with served() as made:
        yield made


def speech() -> bytes:
    """Five seconds of real-sounding speech, FLAC."""
    return SAMPLE.read_bytes()


def silence(seconds: float) -> bytes:
    """Raw 16-bit PCM at 16 kHz."""
    return np.zeros(int(seconds * 16000), np.int16).tobytes()


def request(audio: bytes, **fields: Any) -> transcribe_pb2.TranscribeRequest:
    return transcribe_pb2.TranscribeRequest(audio=audio, **fields)
