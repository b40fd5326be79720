"""Clients who leave in the middle: how long the engine goes on working for nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
from google.api import httpbody_pb2

from asr_service.app import serving
from asr_service.config import Settings
from asr_service.pb.asr.v1 import audio_pb2, stream_pb2, transcribe_pb2
from asr_service.pb.asr.v1.asr_pb2_grpc import AsrServiceStub
from asr_service.pb.asr.v1.stream_pb2 import StreamTranscribeRequest as Say
from asr_service.request import SAMPLE_RATE
from measuring.listening_engine import make_listening
from measuring.report import Row, row
from measuring.scripted_model import PacedReplies, ScriptedModel
from measuring.spoken import own_clips, pcm, talk

_AUDIO_S = 12
_TOKENS_PER_S = 20  # a long reply, so that its owner leaves in the middle of it
_STEPS_BEFORE = 5
_LOOK_EVERY_S = 0.0005
_FORMAT = audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=SAMPLE_RATE)


async def measure_leaving(folder: Path, n_times: int) -> list[Row]:
    """C16, over real gRPC: from the client's cancel until the engine holds nothing of it."""
    listening = make_listening(folder, PacedReplies(_TOKENS_PER_S))
    settings = Settings.load(grpc_port=0, metrics_enabled=False)
    audio = pcm(talk(own_clips().clips, _AUDIO_S, breath_s=0.1))
    steps: dict[str, list[float]] = {"live": [], "upload": []}
    taken_ms: dict[str, list[float]] = {"live": [], "upload": []}
    async with AsyncExitStack() as stack:
        serve = serving(settings, make_engine=lambda _settings, _metrics: listening.engine)
        running = await stack.enter_async_context(serve)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(running.address))
        stub: Any = AsrServiceStub(channel)  # type: ignore[no-untyped-call, unused-ignore]
        for _ in range(n_times):
            for kind, start in (("live", _talk), ("upload", _upload)):
                n_steps, ms = await _leave(listening.model, await start(stub, audio))
                steps[kind].append(n_steps)
                taken_ms[kind].append(ms)
    made = []
    for kind, what in (("live", "a live session"), ("upload", "an upload")):
        worst = max(steps[kind])
        facts: dict[str, Any] = {"times": n_times, "worst": worst, "checkpoint": folder.name}
        named = f"cancel of {what} until the engine holds nothing of it"
        met: dict[str, Any] = {"target": "<= 1", "met": worst <= 1}
        made.append(
            row("C16", f"{named}, steps that end in between, the one at work included", steps[kind], "steps", **met, **facts)
        )
        made.append(row("C16", named, taken_ms[kind], "ms", **facts))
    return made


async def _talk(stub: Any, audio: bytes) -> Any:
    """All at once, and nothing decides where it ends: a long guess."""
    call = stub.StreamTranscribe()
    off = stream_pb2.Endpointing(mode=stream_pb2.ENDPOINT_MODE_OFF)
    await call.write(Say(config=stream_pb2.SessionConfig(format=_FORMAT, endpointing=off)))
    await call.write(Say(audio=stream_pb2.Audio(data=audio)))
    return call


async def _upload(stub: Any, audio: bytes) -> Any:
    call = stub.TranscribeUpload()
    request = transcribe_pb2.TranscribeUploadRequest
    await call.write(request(format=_FORMAT, audio=httpbody_pb2.HttpBody(data=audio)))
    await call.done_writing()
    return call


async def _leave(model: ScriptedModel, call: Any) -> tuple[int, float]:
    """Steps and milliseconds from the cancel on."""
    await _until(lambda: model.n_open > 0)
    first = model.n_steps
    await _until(lambda: model.n_steps >= first + _STEPS_BEFORE or not model.n_open)
    assert model.n_open, "the reply is over before its owner could leave"
    n_before, began_s = model.n_steps, time.perf_counter()
    call.cancel()
    await _until(lambda: model.n_open == 0)
    return model.n_steps - n_before, 1000 * (time.perf_counter() - began_s)


async def _until(is_so: Callable[[], bool]) -> None:
    """The engine's thread tells nobody, so it is looked at."""
    while not is_so():  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_EVERY_S)
