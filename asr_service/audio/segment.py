"""Where one stretch of speech ends and the next begins, from the detector's probabilities. Pure: samples in, Speech out.

A frame (512 samples) is loud at p >= threshold and quiet at p < threshold - 0.15 (at least 0.01); between the two it changes
nothing.

state     frame                                        next      what happens
silence   not loud                                     silence   only the last prefix_padding_ms are kept
silence   loud                                         speech    a stretch starts prefix_padding_ms before it
speech    loud                                         speech    the pause, if any, is over
speech    quiet                                        speech    a pause begins, if none has
speech    pause reaches silence_ms                     silence   the stretch ends suffix_padding_ms into the pause
speech    longer than soft_max_ms, in a pause of 96 ms speech    the stretch ends at the pause's quietest frame; the next starts
speech    as long as hard_max_ms allows                speech    likewise at the quietest frame of the last 3 s; cut_in_speech
any       end of the source                            -         the stretch ends there, or suffix_padding_ms into a pause

* Stretches come in order and never overlap; a start's padding reaches back no further than the end before it.
* A stretch is dropped if no frame of it is loud, or if it is shorter than min_speech_ms from its first loud frame to its last
  pause (a click, a cough), but then only if silence stands on both sides of it: the rest of a cut stretch always comes.
* So every loud frame is in exactly one stretch or in a dropped burst, and no stretch is longer than hard_max_ms.
* The same samples give the same stretches however they are cut into blocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from asr_service.audio.sample_buffer import SampleBuffer, quietest_point
from asr_service.audio.vad import FRAME_SAMPLES
from asr_service.request import Samples, Speech, ms_to_samples, samples_to_ms

_HYSTERESIS = 0.15
_MIN_EXIT = 0.01
_SHORT_PAUSE_FRAMES = 3  # 96 ms
_CUT_WINDOW_MS = 3_000


@dataclass(frozen=True, slots=True)
class SegmenterConfig:
    """When speech starts, ends and is cut. Raises ValueError when the values contradict each other."""

    threshold: float = 0.5
    silence_ms: int = 500
    prefix_padding_ms: int = 300
    suffix_padding_ms: int = 200
    min_speech_ms: int = 250
    soft_max_ms: int = 30_000
    hard_max_ms: int = 60_000

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold < 1.0:
            raise ValueError(f"threshold: {self.threshold} is outside 0.0 to 1.0, both excluded")
        if self.soft_max_ms >= self.hard_max_ms:
            raise ValueError(f"soft_max_ms: {self.soft_max_ms} is not below hard_max_ms ({self.hard_max_ms})")
        if self.hard_max_ms < self.prefix_padding_ms + self.silence_ms + 100:
            raise ValueError(f"hard_max_ms: {self.hard_max_ms} leaves no room for speech between paddings and pause")

    @property
    def exit_threshold(self) -> float:
        return max(_MIN_EXIT, self.threshold - _HYSTERESIS)

    @property
    def suffix_samples(self) -> int:
        return ms_to_samples(min(self.suffix_padding_ms, self.silence_ms))


@dataclass(slots=True)
class _Stretch:
    """Speech that has begun."""

    start: int  # sample
    first_loud: int | None  # frame; None in the rest of a cut stretch until one comes
    is_rest: bool = False
    pause: int | None = None  # frame where the current pause began


@dataclass(slots=True)
class _Probabilities:
    """The probabilities of the frames from `first` on."""

    first: int = 0
    values: list[float] = field(default_factory=list)

    @property
    def end(self) -> int:
        return self.first + len(self.values)

    def mean(self, start: int, end: int) -> float:
        """Over the frames that the samples start to end touch."""
        frames = self.values[max(0, start // FRAME_SAMPLES - self.first) : -(-end // FRAME_SAMPLES) - self.first]
        return float(np.mean(frames)) if frames else 0.0

    def first_at_least(self, threshold: float, frame: int) -> int | None:
        """The first frame from `frame` on that is that loud."""
        for at in range(max(frame, self.first), self.end):
            if self.values[at - self.first] >= threshold:
                return at
        return None

    def forget_before(self, frame: int) -> None:
        n_gone = min(max(0, frame - self.first), len(self.values))
        del self.values[:n_gone]
        self.first += n_gone


class Segmenter:
    """Cuts one source. Memory is bounded by hard_max_ms and the largest block fed."""

    def __init__(self, config: SegmenterConfig | None = None) -> None:
        self._config = config or SegmenterConfig()
        self._buffer = SampleBuffer()
        self._probabilities = _Probabilities()
        self._stretch: _Stretch | None = None
        self._last_end = 0  # sample where the last stretch ended

    def feed(self, samples: Samples, probabilities: NDArray[np.float32]) -> list[Speech]:
        """Samples, shape (n,), and the probabilities, shape (m,), of the frames they completed; the stretches that ended.

        The last frame of a source may be shorter; its probability comes with an empty block or with its samples.
        """
        self._buffer.append(samples)
        speeches: list[Speech] = []
        for probability in probabilities.tolist():
            self._probabilities.values.append(probability)
            speech = self._step(self._probabilities.end - 1, probability)
            if speech is not None:
                speeches.append(speech)
        self._forget()
        return speeches

    def finish(self) -> list[Speech]:
        """The stretch that the end of the source ends, if any."""
        stretch = self._stretch
        if stretch is None:
            return []
        end = self._buffer.end
        if stretch.pause is not None:
            end = min(end, stretch.pause * FRAME_SAMPLES + self._config.suffix_samples)
        speech = self._end(stretch, end)
        return [speech] if speech is not None else []

    def _step(self, frame: int, probability: float) -> Speech | None:
        config = self._config
        is_loud = probability >= config.threshold
        if self._stretch is None:
            if is_loud:
                start = frame * FRAME_SAMPLES - ms_to_samples(config.prefix_padding_ms)
                self._stretch = _Stretch(max(start, self._last_end), first_loud=frame)
            return None
        stretch = self._stretch
        if is_loud:
            stretch.pause = None
            stretch.first_loud = frame if stretch.first_loud is None else stretch.first_loud
        elif probability < config.exit_threshold and stretch.pause is None:
            stretch.pause = frame
        return self._end_if_due(stretch, end_frame=frame + 1)

    def _end_if_due(self, stretch: _Stretch, end_frame: int) -> Speech | None:
        config = self._config
        now = end_frame * FRAME_SAMPLES
        if stretch.pause is not None:
            n_quiet = end_frame - stretch.pause
            if n_quiet * FRAME_SAMPLES >= ms_to_samples(config.silence_ms):
                return self._end(stretch, stretch.pause * FRAME_SAMPLES + config.suffix_samples)
            if n_quiet >= _SHORT_PAUSE_FRAMES and now - stretch.start > ms_to_samples(config.soft_max_ms):
                return self._cut(stretch, max(stretch.start, stretch.pause * FRAME_SAMPLES), now, cut_in_speech=False)
        if now + FRAME_SAMPLES - stretch.start > ms_to_samples(config.hard_max_ms):
            # Never in the first half: what is cut off must be worth recognising.
            window = max(now - ms_to_samples(_CUT_WINDOW_MS), (stretch.start + now) // 2)
            return self._cut(stretch, window, now, cut_in_speech=True)
        return None

    def _end(self, stretch: _Stretch, end: int) -> Speech | None:
        """Back to silence. None when the stretch is not worth a Speech."""
        self._stretch = None
        if stretch.first_loud is None:
            return None
        loud_end = end if stretch.pause is None else stretch.pause * FRAME_SAMPLES
        loud_samples = loud_end - stretch.first_loud * FRAME_SAMPLES
        if not stretch.is_rest and loud_samples < ms_to_samples(self._config.min_speech_ms):
            return None
        return self._emit(stretch.start, end, cut_in_speech=False)

    def _cut(self, stretch: _Stretch, window: int, now: int, *, cut_in_speech: bool) -> Speech | None:
        """Ends the stretch at the quietest frame of the samples window to now and starts the next there."""
        window = -(-window // FRAME_SAMPLES) * FRAME_SAMPLES
        at = window + quietest_point(self._buffer.slice(window, now), FRAME_SAMPLES)
        first_loud = self._probabilities.first_at_least(self._config.threshold, at // FRAME_SAMPLES)
        self._stretch = _Stretch(at, first_loud, is_rest=True, pause=stretch.pause)
        if stretch.first_loud is None:
            return None
        return self._emit(stretch.start, at, cut_in_speech=cut_in_speech)

    def _emit(self, start: int, end: int, *, cut_in_speech: bool) -> Speech:
        self._last_end = end
        samples = self._buffer.slice(start, end)
        return Speech(samples, samples_to_ms(start), self._probabilities.mean(start, end), cut_in_speech)

    def _forget(self) -> None:
        if self._stretch is not None:
            needed = self._stretch.start
        else:
            heard = self._probabilities.end * FRAME_SAMPLES
            needed = max(self._last_end, heard - ms_to_samples(self._config.prefix_padding_ms))
        self._buffer.forget_before(needed)
        self._probabilities.forget_before(needed // FRAME_SAMPLES)


class WholeSegmenter:
    """Detection off: every sample is in exactly one piece of at most soft_max_ms, cut at the quietest frame of its last 3 s."""

    def __init__(self, soft_max_ms: int = 30_000) -> None:
        self._max_samples = ms_to_samples(soft_max_ms)
        self._window_samples = min(ms_to_samples(_CUT_WINDOW_MS), self._max_samples // 2)
        if self._window_samples < FRAME_SAMPLES:
            raise ValueError(f"soft_max_ms: {soft_max_ms} is below {2 * samples_to_ms(FRAME_SAMPLES)}")
        self._buffer = SampleBuffer()

    def feed(self, samples: Samples) -> list[Speech]:
        self._buffer.append(samples)
        speeches: list[Speech] = []
        while self._buffer.end - self._buffer.start > self._max_samples:
            window = self._buffer.start + self._max_samples - self._window_samples
            end = self._buffer.start + self._max_samples
            speeches.append(self._take(window + quietest_point(self._buffer.slice(window, end), FRAME_SAMPLES)))
        return speeches

    def finish(self) -> list[Speech]:
        """The rest, if any."""
        return [self._take(self._buffer.end)] if self._buffer.end > self._buffer.start else []

    def _take(self, end: int) -> Speech:
        start = self._buffer.start
        speech = Speech(self._buffer.slice(start, end), samples_to_ms(start))
        self._buffer.forget_before(end)
        return speech
