"""How a live session is to run: where utterances end, and how often text is wanted before."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from asr_service.errors import InvalidValue

LEAST_PAUSE_MS = 96
"""Three frames of the detector: a shorter pause is none."""


class EndpointMode(Enum):
    """Who decides where an utterance ends."""

    SERVER_VAD = "server_vad"
    EXTERNAL = "external"  # the client, with flush; silence costs no recognition all the same
    OFF = "off"  # nobody: all audio is recognised, cut at flush, finish and the maximum length only


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """See asr.v1.Endpointing. None: never."""

    mode: EndpointMode = EndpointMode.SERVER_VAD
    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_ms: int = 500
    eager_silence_ms: int | None = None
    min_speech_ms: int = 250
    max_utterance_ms: int = 30_000
    start_timeout_ms: int | None = None
    idle_timeout_ms: int | None = None

    def check(self, path: str) -> None:
        """Raises InvalidValue that names the field, below `path`."""
        if not 0.0 < self.threshold < 1.0:
            raise InvalidValue.of(f"{path}.threshold", f"{self.threshold:g} is outside 0.0 to 1.0, both excluded")
        _within(path, "prefix_padding_ms", self.prefix_padding_ms, 0, 1000)
        _within(path, "silence_ms", self.silence_ms, 100, 5000)
        _within(path, "min_speech_ms", self.min_speech_ms, 0, 1000)
        _within(path, "max_utterance_ms", self.max_utterance_ms, 5000, 60_000)
        if self.eager_silence_ms is not None:
            _within(path, "eager_silence_ms", self.eager_silence_ms, LEAST_PAUSE_MS, self.silence_ms - 1)
        for name in ("start_timeout_ms", "idle_timeout_ms"):
            value = getattr(self, name)
            if value is not None:
                _within(path, name, value, 100, 24 * 3_600_000)

    @property
    def hard_max_ms(self) -> int:
        """An utterance is never longer."""
        return min(60_000, 2 * self.max_utterance_ms)


@dataclass(frozen=True, slots=True)
class PartialSettings:
    """See asr.v1.Partials. `min_stability` None: every tail is shown."""

    enabled: bool = True
    interval_ms: int = 500
    min_stability: float | None = None

    def check(self, path: str) -> None:
        """Raises InvalidValue that names the field, below `path`."""
        _within(path, "interval_ms", self.interval_ms, 100, 5000)
        if self.min_stability is not None and not 0.0 <= self.min_stability <= 1.0:
            raise InvalidValue.of(f"{path}.min_stability", f"{self.min_stability:g} is outside 0.0 to 1.0")


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Both."""

    endpointing: EndpointSettings = field(default_factory=EndpointSettings)
    partials: PartialSettings = field(default_factory=PartialSettings)


def _within(path: str, name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise InvalidValue.of(f"{path}.{name}", f"{value} is outside {least} to {most}")
