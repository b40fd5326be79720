"""The configuration of live sessions: from messages to a plan, and back with the defaults filled in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message

from asr_service.engine.protocol import EngineInfo
from asr_service.errors import AsrError, FeatureUnavailable, InvalidValue, Violation
from asr_service.grpc_api import convert
from asr_service.live.events import Noted
from asr_service.live.plan import LivePlan
from asr_service.pb.asr.v1 import audio_pb2, stream_pb2, transcript_pb2
from asr_service.request import RecognitionOptions
from asr_service.session.settings import EndpointMode, EndpointSettings, PartialSettings, SessionSettings

MAX_RESUME_WINDOW_MS = 600_000

_MODES = {
    stream_pb2.ENDPOINT_MODE_UNSPECIFIED: EndpointMode.SERVER_VAD,
    stream_pb2.ENDPOINT_MODE_SERVER_VAD: EndpointMode.SERVER_VAD,
    stream_pb2.ENDPOINT_MODE_EXTERNAL: EndpointMode.EXTERNAL,
    stream_pb2.ENDPOINT_MODE_OFF: EndpointMode.OFF,
}
_MODE_MESSAGES = {mode: message for message, mode in _MODES.items()}
_VOICE_ACTIVITY = "config.recognition.voice_activity"


def read_session(
    config: stream_pb2.SessionConfig, engine: EngineInfo, *, max_channels: int, deadline_s: float | None
) -> tuple[LivePlan, list[Noted]]:
    """The plan and what was ignored. Raises InvalidValue naming the field, and what convert.read_config raises."""
    with moved("config.", "config.recognition."):
        wanted = convert.read_config(config.recognition, engine)
    with moved("format.", "config.format."):
        fmt = convert.read_format(config.format, "", max_channels)
    settings = SessionSettings(
        _read_endpointing(config.endpointing, EndpointSettings(), "config.endpointing"),
        _read_partials(config.partials, PartialSettings(), "config.partials"),
    )
    window_ms = config.resume_window_ms
    if not 0 <= window_ms <= MAX_RESUME_WINDOW_MS:
        raise InvalidValue.of("config.resume_window_ms", f"{window_ms} is outside 0 to {MAX_RESUME_WINDOW_MS}")
    notes = [_noted(warning, "config.recognition.") for warning in wanted.warnings]
    if config.recognition.HasField("voice_activity"):
        notes.append(Noted("FIELD_IGNORED", _VOICE_ACTIVITY, f"{_VOICE_ACTIVITY} has no effect here: use config.endpointing"))
    if window_ms and not fmt.sample_rate_hz:
        field = "config.resume_window_ms"
        notes.append(Noted("FIELD_IGNORED", field, f"{field} has no effect: a container cannot be gone on with in the middle"))
        window_ms = 0
    if config.recognition.strict and notes:
        raise FeatureUnavailable("; ".join(note.message for note in notes) + " (strict)")
    return LivePlan(fmt, wanted.options, settings, window_ms, config.partial_on_deadline, deadline_s), notes


def read_patch(
    patch: stream_pb2.ConfigPatch, plan: LivePlan, engine: EngineInfo
) -> tuple[RecognitionOptions | None, SessionSettings | None, list[Noted]]:
    """What changes, None where nothing does, and what was ignored. Raises as read_session."""
    options, settings, notes = None, None, []
    if patch.HasField("language") or patch.HasField("context"):
        now = plan.options
        config = transcript_pb2.RecognitionConfig(
            language=patch.language if patch.HasField("language") else now.language.code if now.language else "auto",
            context=patch.context if patch.HasField("context") else now.context,
        )
        with moved("config.", "patch."):
            wanted = convert.read_config(config, engine)
        if patch.HasField("context"):
            notes = [_noted(warning, "patch.") for warning in wanted.warnings]
        options = replace(now, language=wanted.options.language, context=wanted.options.context)
    if patch.HasField("endpointing") or patch.HasField("partials"):
        settings = SessionSettings(
            _read_endpointing(patch.endpointing, plan.settings.endpointing, "patch.endpointing"),
            _read_partials(patch.partials, plan.settings.partials, "patch.partials"),
        )
    return options, settings, notes


def effective_session(plan: LivePlan, engine: EngineInfo) -> stream_pb2.SessionConfig:
    """The plan as a message, defaults filled in."""
    recognition = convert.effective_config(convert.Wanted(plan.options), engine)
    recognition.ClearField("voice_activity")
    endpointing, partials = plan.settings.endpointing, plan.settings.partials
    return stream_pb2.SessionConfig(
        recognition=recognition,
        format=audio_pb2.AudioFormat(
            encoding=convert.encoding_message(plan.format.encoding),
            sample_rate_hz=plan.format.sample_rate_hz,
            channels=plan.format.channels or (1 if plan.format.sample_rate_hz else None),
        ),
        endpointing=stream_pb2.Endpointing(
            mode=_MODE_MESSAGES[endpointing.mode],
            threshold=endpointing.threshold,
            prefix_padding_ms=endpointing.prefix_padding_ms,
            silence_ms=endpointing.silence_ms,
            eager_silence_ms=endpointing.eager_silence_ms,
            min_speech_ms=endpointing.min_speech_ms,
            max_utterance_ms=endpointing.max_utterance_ms,
            start_timeout_ms=endpointing.start_timeout_ms,
            idle_timeout_ms=endpointing.idle_timeout_ms,
        ),
        partials=stream_pb2.Partials(
            enabled=partials.enabled, interval_ms=partials.interval_ms, min_stability=partials.min_stability
        ),
        resume_window_ms=plan.resume_window_ms,
        partial_on_deadline=plan.partial_on_deadline,
    )


@contextmanager
def moved(prefix: str, path: str) -> Iterator[None]:
    """An error that names fields below `prefix` names them below `path`."""
    try:
        yield
    except AsrError as error:
        message = path + error.message.removeprefix(prefix) if error.message.startswith(prefix) else error.message
        violations = tuple(Violation(path + v.field.removeprefix(prefix), v.description) for v in error.violations)
        raise type(error)(message, retry_after_s=error.retry_after_s, violations=violations) from None


def _read_endpointing(message: stream_pb2.Endpointing, now: EndpointSettings, path: str) -> EndpointSettings:
    if message.mode not in _MODES:
        raise InvalidValue.of(f"{path}.mode", f"{message.mode} is not a mode of this version")
    changes = _given(message)
    if message.mode:
        changes["mode"] = _MODES[message.mode]
    settings = replace(now, **changes)
    settings.check(path)
    return settings


def _read_partials(message: stream_pb2.Partials, now: PartialSettings, path: str) -> PartialSettings:
    settings = replace(now, **_given(message))
    settings.check(path)
    return settings


def _given(message: Message) -> dict[str, Any]:
    """The fields that are set. The nouns' fields have the same names."""
    return {field.name: value for field, value in message.ListFields()}


def _noted(warning: transcript_pb2.Warning, path: str) -> Noted:
    code = transcript_pb2.WarningCode.Name(warning.code).removeprefix("WARNING_CODE_")
    return Noted(code, warning.field.replace("config.", path, 1), warning.message.replace("config.", path, 1))
