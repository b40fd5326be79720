"""Between protobuf and the product's nouns; the only module of the server that knows both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf.timestamp_pb2 import Timestamp

from asr_service.audio.source import Encoding, SourceFormat
from asr_service.engine.protocol import EngineInfo, Feature
from asr_service.errors import FeatureUnavailable, InvalidValue, LanguageUnavailable, ModelNotFound
from asr_service.languages import Language, parse_language
from asr_service.pb.asr.v1 import audio_pb2, transcribe_pb2, transcript_pb2
from asr_service.request import Cursors, Phrase, Quality, RecognitionOptions, SegmentResult, Word
from asr_service.transcriber.job import Completed, Partial, Progress, StageTimes, VoiceActivityOptions

MAX_CONTEXT_CHARS = 10_000
MAX_PHRASES = 1_000

_ENCODINGS = {
    audio_pb2.AUDIO_ENCODING_UNSPECIFIED: Encoding.CONTAINER,
    audio_pb2.AUDIO_ENCODING_CONTAINER: Encoding.CONTAINER,
    audio_pb2.AUDIO_ENCODING_PCM_S16LE: Encoding.PCM_S16LE,
    audio_pb2.AUDIO_ENCODING_PCM_F32LE: Encoding.PCM_F32LE,
    audio_pb2.AUDIO_ENCODING_MULAW: Encoding.MULAW,
    audio_pb2.AUDIO_ENCODING_ALAW: Encoding.ALAW,
}
_ENCODING_MESSAGES = {encoding: message for message, encoding in _ENCODINGS.items()}

_QUALITY_FLAGS = {
    Quality.REPETITION_RECOVERED: transcript_pb2.QUALITY_FLAG_REPETITION_RECOVERED,
    Quality.CONTEXT_LEAK_REMOVED: transcript_pb2.QUALITY_FLAG_CONTEXT_LEAK_REMOVED,
    Quality.TRUNCATED: transcript_pb2.QUALITY_FLAG_TRUNCATED,
}


@dataclass(slots=True)
class Wanted:
    """A RecognitionConfig, checked against an engine: what will be done, and what was ignored."""

    options: RecognitionOptions
    voice_activity: VoiceActivityOptions = field(default_factory=VoiceActivityOptions)
    warnings: list[transcript_pb2.Warning] = field(default_factory=list)


def read_format(message: audio_pb2.AudioFormat, content_type: str, max_channels: int) -> SourceFormat:
    """Raises InvalidValue naming the field."""
    if message.encoding not in _ENCODINGS:
        raise InvalidValue.of("format.encoding", f"{message.encoding} is not an encoding of this version")
    source_format = SourceFormat(
        encoding=_ENCODINGS[message.encoding],
        sample_rate_hz=message.sample_rate_hz if message.HasField("sample_rate_hz") else None,
        channels=message.channels if message.HasField("channels") else None,
        content_type=content_type[:100],
    )
    source_format.check(max_channels=max_channels)
    return source_format


def read_config(config: transcript_pb2.RecognitionConfig, engine: EngineInfo) -> Wanted:
    """What is wanted, as far as the engine can. Raises InvalidValue, UnknownLanguage, ModelNotFound, LanguageUnavailable, and
    with `strict` FeatureUnavailable instead of warning."""
    if config.model not in ("", engine.model):
        raise ModelNotFound(f"no model {config.model[:128]!r} here; available: {engine.model}")
    _check_ranges(config)
    language = parse_language(config.language)
    candidates = tuple(c for c in (parse_language(t, "config.candidate_languages") for t in config.candidate_languages) if c)
    _check_languages(language, candidates, engine)
    wanted = Wanted(
        options=RecognitionOptions(
            language=language,
            candidate_languages=tuple(candidate for candidate in candidates if candidate in engine.languages),
            context=config.context,
            phrases=tuple(Phrase(p.text, p.weight if p.HasField("weight") else 1.0) for p in config.phrases),
            temperature=config.temperature,
            word_times=config.word_times,
            word_confidence=config.word_confidence,
            max_alternatives=config.max_alternatives if config.HasField("max_alternatives") else 1,
        ),
        voice_activity=_read_voice_activity(config.voice_activity),
    )
    wanted.warnings += _ignored(config, wanted.options, engine)
    if config.strict and wanted.warnings:
        raise FeatureUnavailable("; ".join(w.message for w in wanted.warnings) + " (strict)")
    return wanted


def _check_ranges(config: transcript_pb2.RecognitionConfig) -> None:
    if len(config.context) > MAX_CONTEXT_CHARS:
        raise InvalidValue.of("config.context", f"{len(config.context)} characters are too many (limit {MAX_CONTEXT_CHARS})")
    if len(config.phrases) > MAX_PHRASES:
        raise InvalidValue.of("config.phrases", f"{len(config.phrases)} phrases are too many (limit {MAX_PHRASES})")
    for phrase in config.phrases:
        if phrase.HasField("weight") and not -10.0 <= phrase.weight <= 10.0:
            raise InvalidValue.of("config.phrases.weight", f"{phrase.weight:g} is outside -10 to 10")
    _check_range("config.temperature", config.temperature, 0.0, 1.0)
    if config.HasField("max_alternatives"):
        _check_range("config.max_alternatives", config.max_alternatives, 1, 10)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidValue.of(name, f"{value:g} is outside {low:g} to {high:g}")


def _check_languages(language: Language | None, candidates: Sequence[Language], engine: EngineInfo) -> None:
    spoken = ", ".join(known.name for known in engine.languages)
    if language is not None and language not in engine.languages:
        raise LanguageUnavailable(f"config.language: {engine.model} does not recognise {language.name}; it recognises {spoken}")
    if candidates and not any(candidate in engine.languages for candidate in candidates):
        names = ", ".join(candidate.name for candidate in candidates)
        raise LanguageUnavailable(f"config.candidate_languages: {engine.model} recognises none of {names}, only {spoken}")


def _read_voice_activity(message: audio_pb2.VoiceActivity) -> VoiceActivityOptions:
    default = VoiceActivityOptions()
    if message.mode not in audio_pb2.VoiceActivityMode.values():
        raise InvalidValue.of("config.voice_activity.mode", f"{message.mode} is not a mode of this version")
    threshold = message.threshold if message.HasField("threshold") else default.threshold
    silence_ms = message.silence_ms if message.HasField("silence_ms") else default.silence_ms
    prefix_ms = message.prefix_padding_ms if message.HasField("prefix_padding_ms") else default.prefix_padding_ms
    if not 0.0 < threshold < 1.0:
        raise InvalidValue.of("config.voice_activity.threshold", f"{threshold:g} is not between 0 and 1")
    _check_range("config.voice_activity.silence_ms", silence_ms, 100, 5000)
    _check_range("config.voice_activity.prefix_padding_ms", prefix_ms, 0, 1000)
    return VoiceActivityOptions(message.mode != audio_pb2.VOICE_ACTIVITY_MODE_OFF, threshold, silence_ms, prefix_ms)


def _ignored(
    config: transcript_pb2.RecognitionConfig, options: RecognitionOptions, engine: EngineInfo
) -> list[transcript_pb2.Warning]:
    asked = [
        (Feature.CONTEXT, "config.context", bool(options.context)),
        (Feature.PHRASES, "config.phrases", bool(options.phrases)),
        (Feature.TEMPERATURE, "config.temperature", options.temperature > 0),
        (Feature.WORD_TIMES, "config.word_times", options.word_times),
        (Feature.WORD_CONFIDENCE, "config.word_confidence", options.word_confidence),
        (Feature.ALTERNATIVES, "config.max_alternatives", options.max_alternatives > 1),
    ]
    warnings = [
        warning(transcript_pb2.WARNING_CODE_FIELD_IGNORED, name, f"{name} has no effect: {engine.name} cannot use it")
        for feature, name, is_asked in asked
        if is_asked and feature not in engine.features
    ]
    if len(config.candidate_languages) > 1 and Feature.LANGUAGE_DETECTION not in engine.features:
        name = "config.candidate_languages"
        warnings.append(
            warning(transcript_pb2.WARNING_CODE_FIELD_IGNORED, name, f"{name} has no effect: {engine.name} does not detect")
        )
    has_unwanted = any(phrase.weight < 0 for phrase in options.phrases)
    if has_unwanted and Feature.PHRASES in engine.features and Feature.NEGATIVE_PHRASES not in engine.features:
        name = "config.phrases.weight"
        message = f"phrases with a negative weight have no effect: {engine.name} can prefer words but not avoid them"
        warnings.append(warning(transcript_pb2.WARNING_CODE_FIELD_IGNORED, name, message))
    return warnings + [
        warning(transcript_pb2.WARNING_CODE_UNKNOWN_EXTENSION, f"config.extensions.{key[:64]}", f"no extension {key[:64]!r}")
        for key in sorted(config.extensions)
    ]


def warning(code: transcript_pb2.WarningCode.ValueType, name: str, message: str) -> transcript_pb2.Warning:
    return transcript_pb2.Warning(code=code, field=name, message=message)


def effective_config(wanted: Wanted, engine: EngineInfo) -> transcript_pb2.RecognitionConfig:
    """The configuration as it will be applied, defaults filled in."""
    options, vad = wanted.options, wanted.voice_activity
    return transcript_pb2.RecognitionConfig(
        model=engine.model,
        language=options.language.code if options.language else "auto",
        candidate_languages=[candidate.code for candidate in options.candidate_languages],
        context=options.context,
        phrases=[transcript_pb2.Phrase(text=p.text, weight=p.weight) for p in options.phrases],
        temperature=options.temperature,
        word_times=options.word_times,
        word_confidence=options.word_confidence,
        max_alternatives=options.max_alternatives,
        voice_activity=audio_pb2.VoiceActivity(
            mode=audio_pb2.VOICE_ACTIVITY_MODE_ON if vad.enabled else audio_pb2.VOICE_ACTIVITY_MODE_OFF,
            threshold=vad.threshold,
            silence_ms=vad.silence_ms,
            prefix_padding_ms=vad.prefix_padding_ms,
        ),
    )


def language_message(language: Language | None) -> transcript_pb2.Language | None:
    return None if language is None else transcript_pb2.Language(code=language.code, name=language.name)


def engine_message(engine: EngineInfo) -> transcript_pb2.EngineDescription:
    return transcript_pb2.EngineDescription(name=engine.name, model=engine.model, reason=engine.reason)


def cursors_message(cursors: Cursors) -> audio_pb2.AudioCursors:
    return audio_pb2.AudioCursors(
        received_ms=cursors.received_ms, decoded_ms=cursors.decoded_ms, committed_ms=cursors.committed_ms
    )


def segment_message(result: SegmentResult, options: RecognitionOptions) -> transcript_pb2.Segment:
    speech, hypothesis = result.speech, result.hypothesis
    return transcript_pb2.Segment(
        index=result.index,
        start_ms=speech.start_ms,
        end_ms=speech.end_ms,
        text=hypothesis.text,
        language=language_message(hypothesis.language),
        words=word_messages(hypothesis.words, options),
        confidence=hypothesis.confidence,
        speech_probability=speech.speech_probability,
        alternatives=[transcript_pb2.Alternative(text=text, confidence=c) for text, c in hypothesis.alternatives],
        quality_flags=_quality_flags(result),
    )


def word_messages(words: Sequence[Word], options: RecognitionOptions) -> list[transcript_pb2.Word]:
    """None unless word times are wanted."""
    return [
        transcript_pb2.Word(
            text=word.text,
            start_ms=word.start_ms,
            end_ms=word.end_ms,
            confidence=word.confidence if options.word_confidence else None,
            interpolated=word.interpolated,
        )
        for word in words
        if options.word_times
    ]


def encoding_message(encoding: Encoding) -> audio_pb2.AudioEncoding.ValueType:
    return _ENCODING_MESSAGES[encoding]


def _quality_flags(result: SegmentResult) -> list[transcript_pb2.QualityFlag.ValueType]:
    flags = [message for flag, message in _QUALITY_FLAGS.items() if flag in result.hypothesis.flags]
    return [*flags, transcript_pb2.QUALITY_FLAG_CUT_IN_SPEECH] if result.speech.cut_in_speech else flags


def partial_message(partial: Partial) -> transcribe_pb2.SegmentPartial:
    return transcribe_pb2.SegmentPartial(index=partial.index, text=partial.text)


def progress_message(progress: Progress) -> transcribe_pb2.UploadProgress:
    return transcribe_pb2.UploadProgress(
        processed_ms=progress.processed_ms,
        total_ms=progress.total_ms,
        received_bytes=progress.received_bytes,
        eta_ms=None if progress.eta_s is None else _ms(progress.eta_s),
    )


def usage_message(completed: Completed) -> transcript_pb2.Usage:
    tokens = completed.tokens
    return transcript_pb2.Usage(
        audio_ms=completed.duration_ms,
        speech_ms=completed.speech_ms,
        engine_calls=completed.engine_calls,
        input_audio_tokens=tokens.audio if tokens is not None else None,
        input_text_tokens=tokens.prompt if tokens is not None else None,
        output_tokens=tokens.output if tokens is not None else None,
    )


def timings_message(times: StageTimes, trace_id: str) -> transcript_pb2.Timings:
    return transcript_pb2.Timings(
        total_ms=_ms(times.total_s),
        queue_ms=_ms(times.queue_s),
        decode_audio_ms=_ms(times.decode_s),
        voice_activity_ms=_ms(times.voice_activity_s),
        recognize_ms=_ms(times.recognize_s),
        first_text_ms=None if times.first_text_s is None else _ms(times.first_text_s),
        trace_id=trace_id,
    )


def now_message() -> Timestamp:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
