"""The form fields of a transcription, turned into what the service is asked for and how the answer is written.

Pure. A bad value raises HttpError; a field without effect is named in `notices` and never dropped silently.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from asr_service.pb.asr.v1 import audio_pb2, transcript_pb2
from rest_bridge.errors import invalid_value

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
# What OpenAI documents for server_vad where a value is left out.
_OPENAI_SILENCE_MS = 200

_INDEX = re.compile(r"\[\d*\]$")
_TRUE = ("true", "1", "yes", "on")
_FALSE = ("false", "0", "no", "off", "")


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a client asked for."""

    config: transcript_pb2.RecognitionConfig
    response_format: str = "json"
    has_model: bool = False
    wants_words: bool = False
    wants_segments: bool = True
    temperature: float = 0.0
    notices: tuple[str, ...] = ()


@dataclass(slots=True)
class _Draft:
    """The fields seen so far."""

    aliases: Collection[str]
    config: transcript_pb2.RecognitionConfig = field(default_factory=transcript_pb2.RecognitionConfig)
    response_format: str | None = None
    has_model: bool = False
    granularities: list[str] = field(default_factory=list)
    returns_timestamps: bool = False
    vad: dict[str, object] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    def model(self, value: str) -> None:
        self.has_model = bool(value)
        self.config.model = "" if value in self.aliases else value

    def language(self, value: str) -> None:
        self.config.language = value

    def languages(self, value: str) -> None:
        self.config.candidate_languages.append(value)

    def keyword(self, value: str) -> None:
        self.config.phrases.add(text=value)

    def prompt(self, value: str) -> None:
        self.config.context = value

    def format(self, value: str) -> None:
        if value == "diarized_json":
            raise invalid_value("response_format", "diarized_json is not available: speakers are not told apart here")
        if value not in FORMATS:
            raise invalid_value("response_format", f"response_format: {value[:64]!r} is none of {', '.join(FORMATS)}")
        self.response_format = value

    def temperature(self, value: str) -> None:
        number = _number("temperature", value)
        if not 0.0 <= number <= 1.0:
            raise invalid_value("temperature", f"temperature: {number:g} is outside 0 to 1")
        if number > 0.0:  # 0 is the default and asks for nothing
            self.config.temperature = number
        else:
            self.config.ClearField("temperature")

    def granularity(self, value: str) -> None:
        if value not in ("word", "segment"):
            raise invalid_value(
                "timestamp_granularities[]", f"timestamp_granularities[]: {value[:64]!r} is not word or segment"
            )
        self.granularities.append(value)

    def include(self, value: str) -> None:
        why = "this engine has no token log probabilities" if value == "logprobs" else f"{value[:64]!r} is not known"
        self.notices.append(f"include[]: ignored; {why}")

    def stream(self, value: str) -> None:
        if _boolean("stream", value):
            self.notices.append("stream: ignored; the answer comes as a whole")

    def timestamps(self, value: str) -> None:
        self.returns_timestamps |= _boolean("return_timestamps", value)

    def chunking(self, value: str) -> None:
        if value in ("", "auto", "null"):
            return
        try:
            strategy = json.loads(value)
        except (ValueError, RecursionError):
            strategy = None
        if not isinstance(strategy, dict):
            raise invalid_value("chunking_strategy", 'chunking_strategy: neither "auto" nor a JSON object')
        self.vad |= strategy

    def ignored(self, name: str, why: str) -> None:
        notice = f"{name[:64]}: ignored; {why}"
        if notice not in self.notices:
            self.notices.append(notice)


_FIELDS: Mapping[str, Callable[[_Draft, str], None]] = {
    "model": _Draft.model,
    "language": _Draft.language,
    "languages": _Draft.languages,
    "keywords": _Draft.keyword,
    "prompt": _Draft.prompt,
    "response_format": _Draft.format,
    "temperature": _Draft.temperature,
    "timestamp_granularities": _Draft.granularity,
    "include": _Draft.include,
    "stream": _Draft.stream,
    "chunking_strategy": _Draft.chunking,
    "return_timestamps": _Draft.timestamps,
    "return_time_stamps": _Draft.timestamps,
}
_ARRAYS = ("languages", "keywords", "timestamp_granularities", "include")
_KNOWN_WITHOUT_EFFECT = {
    "known_speaker_names": "speakers are not told apart here",
    "known_speaker_references": "speakers are not told apart here",
}
_VAD_FIELD = re.compile(r"chunking_strategy\[(\w+)\]")


def parse_parameters(
    fields: Iterable[tuple[str, str]], *, aliases: Collection[str], is_complete: bool, extra_files: Iterable[str] = ()
) -> Parameters:
    """What the fields ask for. Before the form is complete, a rule about two fields only holds once both were seen."""
    draft = _Draft(aliases)
    for name, value in fields:
        _take(draft, name, value)
    for name in extra_files:
        draft.ignored(name, "an unknown file field")
    if draft.vad:
        draft.config.voice_activity.CopyFrom(_voice_activity(draft))
    is_verbose = draft.response_format == "verbose_json"
    if draft.granularities and not is_verbose and (is_complete or draft.response_format):
        raise invalid_value(
            "timestamp_granularities[]", "`response_format` must be `verbose_json` if `timestamp_granularities[]` is provided"
        )
    wants_words = "word" in draft.granularities or draft.returns_timestamps
    draft.config.word_times = wants_words or draft.response_format in ("srt", "vtt")
    draft.config.word_confidence = is_verbose and wants_words
    return Parameters(
        config=draft.config,
        response_format=draft.response_format or "json",
        has_model=draft.has_model,
        wants_words=wants_words,
        wants_segments=not draft.granularities or "segment" in draft.granularities,
        temperature=draft.config.temperature,
        notices=tuple(draft.notices),
    )


def _take(draft: _Draft, name: str, value: str) -> None:
    if match := _VAD_FIELD.fullmatch(name):
        draft.vad[match[1]] = value
        return
    base = _INDEX.sub("", name)
    if base in _FIELDS and (name == base or base in _ARRAYS):
        _FIELDS[base](draft, value)
    else:
        draft.ignored(name, _KNOWN_WITHOUT_EFFECT.get(base, "an unknown field"))


def _voice_activity(draft: _Draft) -> audio_pb2.VoiceActivity:
    given = dict(draft.vad)
    kind = given.pop("type", "server_vad")
    if kind == "auto" and not given:
        return audio_pb2.VoiceActivity()
    if kind != "server_vad":
        raise invalid_value("chunking_strategy", f"chunking_strategy.type: {str(kind)[:64]!r} is not server_vad")
    wanted = audio_pb2.VoiceActivity(mode=audio_pb2.VOICE_ACTIVITY_MODE_ON, silence_ms=_OPENAI_SILENCE_MS)
    for name, value in given.items():
        if value is None:
            continue
        if name == "threshold":
            wanted.threshold = _number("chunking_strategy", value)
        elif name == "prefix_padding_ms":
            wanted.prefix_padding_ms = _milliseconds(name, value)
        elif name == "silence_duration_ms":
            wanted.silence_ms = _milliseconds(name, value)
        else:
            draft.ignored(f"chunking_strategy[{name}]", "an unknown field")
    return wanted


def _milliseconds(name: str, value: object) -> int:
    number = _number("chunking_strategy", value)
    if number != int(number) or not 0 <= number < 2**31:
        raise invalid_value("chunking_strategy", f"chunking_strategy.{name}: {number:g} is no whole number of milliseconds")
    return int(number)


def _number(param: str, value: object) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise invalid_value(param, f"{param}: {str(value)[:64]!r} is no number")
    return number


def _boolean(param: str, value: str) -> bool:
    lowered = value.strip().lower()
    if lowered in _TRUE or lowered in _FALSE:
        return lowered in _TRUE
    raise invalid_value(param, f"{param}: {value[:64]!r} is not true or false")
