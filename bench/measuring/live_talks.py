"""People who talk to a service at the pace of speech, and when they read what they said.

A talker sends 100 ms at a time, when they would have been spoken. All times below are behind the moment at which something was
said; so the pause that ends an utterance is part of what a final takes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from asr_service.pb.asr.v1 import audio_pb2, stream_pb2
from asr_service.pb.asr.v1.asr_pb2_grpc import AsrServiceStub
from asr_service.pb.asr.v1.stream_pb2 import StreamTranscribeRequest as Say
from asr_service.pb.asr.v1.stream_pb2 import StreamTranscribeResponse as Hear
from asr_service.request import SAMPLE_RATE, Samples
from asr_service.session.commit import split_units
from measuring.service_process import until
from measuring.spoken import pcm

PACKET_MS = 100
SILENCE_MS = 500
_PACKET_BYTES = 2 * SAMPLE_RATE * PACKET_MS // 1000


@dataclass
class Heard:
    """What talkers saw. Times in milliseconds."""

    final_ms: list[float] = field(default_factory=list)  # from the end of speech
    first_ms: list[float] = field(default_factory=list)  # from the start of speech to its first text
    commit_ms: list[float] = field(default_factory=list)  # from the end of a word until it stands
    behind_ms: list[float] = field(default_factory=list)  # how old the newest recognised audio is, at each partial
    late_ms: list[float] = field(default_factory=list)  # packets, by the talker's own fault
    n_finals: int = 0
    n_revised: int = 0
    n_retracted: int = 0  # of committed text something was taken back, or what was added is not what it grew by
    n_throttled: int = 0
    n_failed: int = 0
    n_early_words: int = 0  # that stood before the final
    n_exact_words: int = 0  # whose ends the recogniser told


@dataclass
class _Utterance:
    """What is known of one that goes on."""

    start_ms: int = 0
    stop_ms: int = 0
    committed: str = ""
    has_text: bool = False
    grown: list[tuple[float, str]] = field(default_factory=list)  # when committed text became what


class Ledger:
    """Turns one session's events, with the moment of each in seconds since its first sample, into what is `heard`."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self._open: dict[int, _Utterance] = {}

    def take(self, event: Hear, at_s: float) -> None:
        match event.WhichOneof("event"):
            case "speech":
                self._noticed(event.speech)
            case "partial":
                self._heard.behind_ms.append(1000 * at_s - event.cursors.decoded_ms)
                self._grew(event.partial, at_s)
            case "final":
                self._decided(event.final, at_s)
            case "throttle":
                self._heard.n_throttled += 1
            case "error":
                self._heard.n_failed += 1

    def _utterance(self, number: int) -> _Utterance:
        return self._open.setdefault(number, _Utterance())

    def _noticed(self, speech: stream_pb2.SpeechEvent) -> None:
        utterance = self._utterance(speech.utterance)
        if speech.type == stream_pb2.SPEECH_EVENT_TYPE_START:
            utterance.start_ms = speech.at_ms
        elif speech.type in (stream_pb2.SPEECH_EVENT_TYPE_STOP, stream_pb2.SPEECH_EVENT_TYPE_END):
            # The stretch that is recognised ends behind the speech: a STOP, where there was one, tells where it stopped.
            is_stop = speech.type == stream_pb2.SPEECH_EVENT_TYPE_STOP
            utterance.stop_ms = speech.at_ms if is_stop or not utterance.stop_ms else min(utterance.stop_ms, speech.at_ms)

    def _grew(self, partial: stream_pb2.Partial, at_s: float) -> None:
        utterance = self._utterance(partial.utterance)
        if partial.committed != utterance.committed + partial.committed_delta:
            self._heard.n_retracted += 1
        if not utterance.has_text and (partial.committed or partial.tail):
            utterance.has_text = True
            self._heard.first_ms.append(1000 * at_s - utterance.start_ms)
        if partial.committed != utterance.committed:
            utterance.committed = partial.committed
            utterance.grown.append((at_s, partial.committed))

    def _decided(self, final: stream_pb2.Final, at_s: float) -> None:
        utterance, heard = self._open.pop(final.utterance, _Utterance()), self._heard
        heard.n_finals += 1
        heard.n_revised += final.revised
        heard.final_ms.append(1000 * at_s - utterance.stop_ms)
        for end_ms, since_s in self._words(final, utterance, at_s):
            heard.commit_ms.append(1000 * since_s - end_ms)

    def _words(self, final: stream_pb2.Final, utterance: _Utterance, at_s: float) -> Iterator[tuple[float, float]]:
        """Of each word of the final: when it ends, and when it stood."""
        text = final.segment.text
        units = split_units(text)
        told = [word.end_ms for word in final.segment.words]
        self._heard.n_exact_words += len(told) if len(told) == len(units) else 0
        n_chars = 0
        for index, unit in enumerate(units):
            n_chars += len(unit)
            spread = utterance.start_ms + (utterance.stop_ms - utterance.start_ms) * n_chars / max(1, len(text))
            stood = (when_s for when_s, committed in utterance.grown if committed.startswith(text[:n_chars]))
            since_s = next(stood, at_s)
            self._heard.n_early_words += since_s < at_s
            yield (told[index] if len(told) == len(units) else spread), since_s


async def talkers(address: str, talks: Sequence[Samples], heard: Heard, *, interval_ms: int = 500) -> None:
    """One session for each talk; they begin within the first second, at times of their own."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = AsrServiceStub(channel)  # type: ignore[no-untyped-call, unused-ignore]
        begin_s = time.monotonic() + 0.2
        tasks = [_talk(stub, talk, heard, begin_s + index / len(talks), interval_ms) for index, talk in enumerate(talks)]
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, grpc.aio.AioRpcError):
                heard.n_failed += 1
            elif isinstance(result, BaseException):
                raise result


async def _talk(stub: Any, samples: Samples, heard: Heard, begin_s: float, interval_ms: int) -> None:
    call = stub.StreamTranscribe()
    reading = asyncio.create_task(_listen(call, Ledger(heard), begin_s))
    config = stream_pb2.SessionConfig(
        format=audio_pb2.AudioFormat(encoding=audio_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=SAMPLE_RATE),
        endpointing=stream_pb2.Endpointing(silence_ms=SILENCE_MS),
        partials=stream_pb2.Partials(interval_ms=interval_ms),
    )
    try:
        await call.write(Say(config=config))
        data = pcm(samples)
        for index, first in enumerate(range(0, len(data), _PACKET_BYTES)):
            due_s = begin_s + (index + 1) * PACKET_MS / 1000
            await until(due_s)
            heard.late_ms.append(1000 * (time.monotonic() - due_s))
            await call.write(Say(audio=stream_pb2.Audio(data=data[first : first + _PACKET_BYTES])))
        await call.write(Say(finish=stream_pb2.Finish()))
    finally:
        await reading


async def _listen(call: Any, ledger: Ledger, begin_s: float) -> None:
    async for event in call:
        ledger.take(event, time.monotonic() - begin_s)
