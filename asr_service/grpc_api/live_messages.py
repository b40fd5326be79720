"""The events of a live session as messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import time
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from asr_service.engine.protocol import EngineInfo
from asr_service.errors import AsrError
from asr_service.grpc_api import convert
from asr_service.grpc_api.status import to_stream_error
from asr_service.live.events import Closed, Failed, GoingAway, Noted, Opened, Refined, Totals
from asr_service.live.outbox import Letter
from asr_service.pb.asr.v1 import stream_pb2, transcript_pb2
from asr_service.request import SAMPLE_RATE, RecognitionOptions
from asr_service.session.events import (
    Decided,
    EndReason,
    Final,
    MarkerReached,
    Partial,
    SpeechEventType,
    SpeechNoticed,
    Throttled,
)

_MAX_AHEAD_MS = 60_000

_SPEECH_EVENTS = {
    SpeechEventType.START: stream_pb2.SPEECH_EVENT_TYPE_START,
    SpeechEventType.STOP: stream_pb2.SPEECH_EVENT_TYPE_STOP,
    SpeechEventType.EAGER_END: stream_pb2.SPEECH_EVENT_TYPE_EAGER_END,
    SpeechEventType.RESUMED: stream_pb2.SPEECH_EVENT_TYPE_RESUMED,
    SpeechEventType.END: stream_pb2.SPEECH_EVENT_TYPE_END,
    SpeechEventType.TIMEOUT: stream_pb2.SPEECH_EVENT_TYPE_TIMEOUT,
}
_END_REASONS = {
    EndReason.FINISHED: stream_pb2.SESSION_END_REASON_FINISHED,
    EndReason.START_TIMEOUT: stream_pb2.SESSION_END_REASON_START_TIMEOUT,
    EndReason.IDLE_TIMEOUT: stream_pb2.SESSION_END_REASON_IDLE_TIMEOUT,
    EndReason.GO_AWAY: stream_pb2.SESSION_END_REASON_GO_AWAY,
    EndReason.DEADLINE: stream_pb2.SESSION_END_REASON_DEADLINE,
}


@dataclass(slots=True)
class LiveWriter:
    """Makes the messages of one connection. `token` and `effective` say what they are at the time of the message; `answer`
    turns a failure into what the client may hear of it."""

    session_id: str
    engine: EngineInfo
    rate_hz: int | None
    options: RecognitionOptions
    trace_id: str
    token: Callable[[], str]
    effective: Callable[[], stream_pb2.SessionConfig]
    limits: Callable[[], stream_pb2.SessionLimits]
    answer: Callable[[AsrError], AsrError]

    def message(self, letter: Letter) -> stream_pb2.StreamTranscribeResponse:
        """One event."""
        return stream_pb2.StreamTranscribeResponse(
            seq=letter.seq,
            session_id=self.session_id,
            cursors=convert.cursors_message(letter.cursors),
            server_time=_timestamp(letter.made_s),
            **self._event(letter.event),
        )

    def _event(self, event: object) -> dict[str, Any]:
        match event:
            case Partial():
                return {"partial": self._partial(event)}
            case SpeechNoticed():
                return {"speech": _speech(event)}
            case Final(result, revised):
                segment = convert.segment_message(result, self.options)
                return {"final": stream_pb2.Final(utterance=result.index, segment=segment, revised=revised)}
            case Refined(utterance, words):
                messages = convert.word_messages(words, self.options)
                return {"refinement": stream_pb2.Refinement(utterance=utterance, words=messages)}
            case Opened():
                return {"started": self._started()}
            case Closed(ended, totals):
                return {"end": _end(_END_REASONS[ended.reason], totals, self.trace_id)}
            case Failed(error):
                return {"error": to_stream_error(self.answer(error))}
        return self._advice(event)

    def _advice(self, event: object) -> dict[str, Any]:
        match event:
            case MarkerReached(id_):
                return {"marker_ack": stream_pb2.MarkerAck(id=id_)}
            case Decided(sample):
                rate_hz = self.rate_hz or SAMPLE_RATE
                return {"ack": stream_pb2.Ack(durable_samples=sample * rate_hz // SAMPLE_RATE)}
            case Throttled(lag_ms, interval_ms):
                throttle = stream_pb2.Throttle(max_ahead_ms=_MAX_AHEAD_MS, lag_ms=lag_ms, partial_interval_ms=interval_ms)
                return {"throttle": throttle}
            case Noted(code, field, message):
                value = transcript_pb2.WarningCode.Value(f"WARNING_CODE_{code}")
                return {"warning": convert.warning(value, field, message)}
            case GoingAway(in_s):
                return {"go_away": stream_pb2.GoAway(deadline=_timestamp(time() + in_s), resume_token=self.token())}
        raise TypeError(f"{type(event).__name__} is no event of a live session")

    def _started(self) -> stream_pb2.SessionStarted:
        return stream_pb2.SessionStarted(
            effective_config=self.effective(),
            resume_token=self.token(),
            engine=convert.engine_message(self.engine),
            limits=self.limits(),
        )

    def _partial(self, partial: Partial) -> stream_pb2.Partial:
        return stream_pb2.Partial(
            utterance=partial.utterance,
            committed_delta=partial.committed_delta,
            committed=partial.committed,
            tail=partial.tail,
            tail_stability=partial.stability,
            tail_stable_chars=partial.stable_chars,
            words=convert.word_messages(partial.words, self.options),
        )


def _speech(noticed: SpeechNoticed) -> stream_pb2.SpeechEvent:
    return stream_pb2.SpeechEvent(
        type=_SPEECH_EVENTS[noticed.type],
        at_ms=noticed.at_ms,
        utterance=noticed.utterance,
        probability=noticed.probability,
    )


def _end(reason: stream_pb2.SessionEndReason.ValueType, totals: Totals, trace_id: str) -> stream_pb2.SessionEnd:
    tokens = totals.tokens
    return stream_pb2.SessionEnd(
        reason=reason,
        usage=transcript_pb2.Usage(
            audio_ms=totals.audio_ms,
            speech_ms=totals.speech_ms,
            engine_calls=totals.engine_calls,
            input_audio_tokens=tokens.audio if tokens is not None else None,
            input_text_tokens=tokens.prompt if tokens is not None else None,
            output_tokens=tokens.output if tokens is not None else None,
        ),
        timings=transcript_pb2.Timings(
            total_ms=round(totals.total_s * 1000),
            queue_ms=round(totals.queue_s * 1000),
            recognize_ms=round(totals.recognize_s * 1000),
            first_text_ms=None if totals.first_text_s is None else round(totals.first_text_s * 1000),
            trace_id=trace_id,
        ),
    )


def _timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(int(seconds * 1e9))
    return stamp
