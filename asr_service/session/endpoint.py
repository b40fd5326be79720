"""Where utterances begin and end while people speak. Samples and the detector's probabilities in, notices out.

The stretches are the Segmenter's (audio/segment.py): its rules decide, this module says early what they will come to.

state         what happens                                          notice
silence       loud frames worth min_speech_ms without a pause       START, at the first loud one; the utterance is announced
speech        96 ms of quiet                                        STOP, at the beginning of the pause; once for each pause
in a pause    eager_silence_ms of quiet                             EAGER_END, at the beginning of the pause
in a pause    speech goes on                                        RESUMED, if there was an EAGER_END
speech        the Segmenter ends or cuts the stretch, or a flush    END with the stretch; silence, or after a cut the rest

* What is never announced (a click, a cough) is never a stretch, and every announced utterance ends with exactly one END.
* In a pause nothing beyond `speech_end` is to be recognised: if the pause goes on, the stretch ends there.
* With an external endpointer no pause ends an utterance; the maximum length does.
* Off: there is no silence. Everything is speech, START and END stand at the cuts, and nothing else is noticed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from asr_service.audio.segment import Segmenter, SegmenterConfig, WholeSegmenter
from asr_service.audio.vad import FRAME_SAMPLES
from asr_service.errors import InvalidValue
from asr_service.request import Samples, Speech, ms_to_samples
from asr_service.session.events import SpeechEventType
from asr_service.session.settings import LEAST_PAUSE_MS, EndpointMode, EndpointSettings

_SUFFIX_PADDING_MS = 200
_SOFT_BELOW_HARD_MS = 1_000
_NOTHING: Samples = np.zeros(0, np.float32)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the endpointer noticed, `at` a sample. With START: the utterance's first sample. With END: the stretch."""

    type: SpeechEventType
    at: int
    probability: float | None = None
    start: int = 0
    speech: Speech | None = None


class Endpointer(Protocol):
    """Positions are samples from the first one fed. Memory is bounded by the maximum length and what is fed at once."""

    @property
    def received(self) -> int:
        """Up to here samples were fed."""
        ...

    @property
    def heard(self) -> int:
        """Up to here it is known whether they are speech."""
        ...

    @property
    def needed(self) -> int:
        """From here on samples may belong to an utterance that has not ended."""
        ...

    @property
    def is_silent(self) -> bool:
        """Nothing has begun, announced or not."""
        ...

    @property
    def is_announced(self) -> bool: ...

    @property
    def speech_end(self) -> int:
        """Up to here the announced utterance can be recognised."""
        ...

    @property
    def is_complete(self) -> bool:
        """The announced utterance is in a pause and holds all that it will come to hold if the pause goes on."""
        ...

    def speech(self) -> Speech:
        """What can be recognised of the announced utterance."""
        ...

    def feed(self, samples: Samples, probabilities: NDArray[np.float32]) -> list[Notice]:
        """Samples (n,), and the probabilities (m,) of the frames that they completed."""
        ...

    def flush(self) -> list[Notice]:
        """Ends the utterance, if any, with what there is. More may be fed."""
        ...

    def change(self, settings: EndpointSettings) -> None:
        """Other settings from the next utterance on. Raises InvalidValue for a change from or to OFF."""
        ...


def make_endpointer(settings: EndpointSettings) -> Endpointer:
    """The one for this mode."""
    if settings.mode is EndpointMode.OFF:
        return OpenEndpointer(settings.max_utterance_ms)
    return SpeechEndpointer(settings)


def segmenter_config(settings: EndpointSettings) -> SegmenterConfig:
    """The rules of the stretches."""
    hard_ms = settings.hard_max_ms
    silence_ms = settings.silence_ms
    if settings.mode is EndpointMode.EXTERNAL:
        silence_ms = hard_ms - settings.prefix_padding_ms - 100  # as good as never: the maximum length comes first
    return SegmenterConfig(
        threshold=settings.threshold,
        silence_ms=silence_ms,
        prefix_padding_ms=settings.prefix_padding_ms,
        suffix_padding_ms=min(_SUFFIX_PADDING_MS, settings.silence_ms, settings.eager_silence_ms or settings.silence_ms),
        min_speech_ms=settings.min_speech_ms,
        soft_max_ms=min(settings.max_utterance_ms, hard_ms - _SOFT_BELOW_HARD_MS),
        hard_max_ms=hard_ms,
    )


class SpeechEndpointer:
    """Modes SERVER_VAD and EXTERNAL."""

    def __init__(self, settings: EndpointSettings) -> None:
        self._settings = settings
        self._segmenter = Segmenter(segmenter_config(settings))
        self._is_announced = False
        self._has_stopped = False  # told of this pause
        self._is_eager = False  # likewise
        self._next: EndpointSettings | None = None

    @property
    def received(self) -> int:
        return self._segmenter.end

    @property
    def heard(self) -> int:
        return min(self._segmenter.heard, self._segmenter.end)

    @property
    def needed(self) -> int:
        return self._segmenter.needed

    @property
    def is_silent(self) -> bool:
        return self._segmenter.stretch is None

    @property
    def is_announced(self) -> bool:
        return self._is_announced

    @property
    def speech_end(self) -> int:
        return min(self.heard, self._segmenter.speech_end)

    @property
    def is_complete(self) -> bool:
        stretch = self._segmenter.stretch
        return self._is_announced and stretch is not None and stretch.pause is not None and self._is_whole()

    def speech(self) -> Speech:
        return self._segmenter.speech(self._segmenter.needed, self.speech_end)

    def feed(self, samples: Samples, probabilities: NDArray[np.float32]) -> list[Notice]:
        self._segmenter.feed(samples, probabilities[:0])
        notices: list[Notice] = []
        for index in range(len(probabilities)):
            speeches = self._segmenter.feed(_NOTHING, probabilities[index : index + 1])
            for speech in speeches:
                notices += self._end(speech)
            notices += self._look(float(probabilities[index]))
        return notices

    def flush(self) -> list[Notice]:
        notices = [notice for speech in self._segmenter.finish() for notice in self._end(speech)]
        self._calm()
        self._adopt()
        return notices

    def change(self, settings: EndpointSettings) -> None:
        _check_change(self._settings.mode, settings.mode)
        self._next = settings
        self._adopt()

    def _adopt(self) -> None:
        if self._next is not None and self.is_silent:
            self._settings, self._next = self._next, None
            self._segmenter.config = segmenter_config(self._settings)

    def _is_whole(self) -> bool:
        return self._segmenter.heard >= self._segmenter.speech_end

    def _look(self, probability: float) -> list[Notice]:
        """After one frame: what of it is news?"""
        stretch = self._segmenter.stretch
        if stretch is None:
            self._calm()
            self._adopt()
            return []
        if not self._is_announced:
            min_speech = ms_to_samples(self._settings.min_speech_ms)
            if stretch.first_loud is None or not stretch.is_speech(self._segmenter.heard, min_speech):
                return []
            self._is_announced = True
            at = stretch.first_loud * FRAME_SAMPLES
            return [Notice(SpeechEventType.START, at, probability, start=stretch.start)]
        if stretch.pause is None:
            was_eager = self._is_eager
            self._has_stopped = self._is_eager = False
            at = self._segmenter.heard - FRAME_SAMPLES
            return [Notice(SpeechEventType.RESUMED, at, probability)] if was_eager else []
        return self._look_at_pause(stretch.pause * FRAME_SAMPLES, probability)

    def _look_at_pause(self, pause: int, probability: float) -> list[Notice]:
        notices: list[Notice] = []
        quiet = self._segmenter.heard - pause
        if not self._has_stopped and quiet >= ms_to_samples(LEAST_PAUSE_MS):
            self._has_stopped = True
            notices.append(Notice(SpeechEventType.STOP, pause, probability))
        eager_ms = self._settings.eager_silence_ms
        if not self._is_eager and eager_ms is not None and quiet >= ms_to_samples(eager_ms):
            self._is_eager = True
            notices.append(Notice(SpeechEventType.EAGER_END, pause, probability))
        return notices

    def _end(self, speech: Speech) -> list[Notice]:
        start, end = ms_to_samples(speech.start_ms), ms_to_samples(speech.end_ms)
        notices = [] if self._is_announced else [Notice(SpeechEventType.START, start, speech.speech_probability, start)]
        self._calm()
        notices.append(Notice(SpeechEventType.END, end, speech.speech_probability, speech=speech))
        return notices

    def _calm(self) -> None:
        self._is_announced = self._has_stopped = self._is_eager = False


class OpenEndpointer:
    """Mode OFF."""

    def __init__(self, max_ms: int) -> None:
        self._segmenter = WholeSegmenter(max_ms)
        self._is_announced = False

    @property
    def received(self) -> int:
        return self._segmenter.end

    @property
    def heard(self) -> int:
        return self._segmenter.end

    @property
    def needed(self) -> int:
        return self._segmenter.start

    @property
    def is_silent(self) -> bool:
        return not self._is_announced

    @property
    def is_announced(self) -> bool:
        return self._is_announced

    @property
    def speech_end(self) -> int:
        return self._segmenter.end

    @property
    def is_complete(self) -> bool:
        return False

    def speech(self) -> Speech:
        return self._segmenter.speech()

    def feed(self, samples: Samples, probabilities: NDArray[np.float32]) -> list[Notice]:
        notices: list[Notice] = []
        for speech in self._segmenter.feed(samples):
            notices += self._announce(ms_to_samples(speech.start_ms))
            notices += self._end(speech)
        if self._segmenter.end > self._segmenter.start:
            notices += self._announce(self._segmenter.start)
        return notices

    def flush(self) -> list[Notice]:
        return [notice for speech in self._segmenter.finish() for notice in self._end(speech)]

    def change(self, settings: EndpointSettings) -> None:
        _check_change(EndpointMode.OFF, settings.mode)
        self._segmenter.soft_max_ms = settings.max_utterance_ms

    def _announce(self, at: int) -> list[Notice]:
        if self._is_announced:
            return []
        self._is_announced = True
        return [Notice(SpeechEventType.START, at, start=at)]

    def _end(self, speech: Speech) -> list[Notice]:
        self._is_announced = False
        return [Notice(SpeechEventType.END, ms_to_samples(speech.end_ms), speech=speech)]


def _check_change(now: EndpointMode, wanted: EndpointMode) -> None:
    if (now is EndpointMode.OFF) is not (wanted is EndpointMode.OFF):
        raise InvalidValue.of("endpointing.mode", f"{now.value} cannot become {wanted.value} within a session")
