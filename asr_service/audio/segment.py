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
_REST_SILENCE_MS = 500  # what a cut has left over is not waited for longer, if nothing loud is in it


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
class Stretch:
    """Speech that has begun, or what a cut has left over."""

    start: int  # sample
    first_loud: int | None  # frame; None in the rest of a cut stretch until one comes
    is_rest: bool = False
    pause: int | None = None  # frame where the current pause began

    def is_speech(self, end: int, min_speech_samples: int) -> bool:
        """If it ended at this sample: was it more than a click?"""
        if self.first_loud is None:
            return False
        loud_end = end if self.pause is None else self.pause * FRAME_SAMPLES
        return self.is_rest or loud_end - self.first_loud * FRAME_SAMPLES >= min_speech_samples


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
        self.config = config or SegmenterConfig()  # may be replaced while no stretch has begun
        self._buffer = SampleBuffer()
        self._probabilities = _Probabilities()
        self._stretch: Stretch | None = None
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
        """The stretch that the end of the source ends, if any. More may be fed: then it was the end of a part."""
        stretch = self._stretch
        if stretch is None:
            return []
        speech = self._end(stretch, min(self._buffer.end, self.speech_end))
        return [speech] if speech is not None else []

    # What is going on, for those who cannot wait for the end

    @property
    def stretch(self) -> Stretch | None:
        """The one that has begun, not to be changed."""
        return self._stretch

    @property
    def end(self) -> int:
        """Sample up to which audio was fed."""
        return self._buffer.end

    @property
    def heard(self) -> int:
        """Sample up to which frames have a probability."""
        return self._probabilities.end * FRAME_SAMPLES

    @property
    def needed(self) -> int:
        """Sample from which on audio may still belong to a stretch to come, or to the one that has begun."""
        if self._stretch is not None:
            return self._stretch.start
        return max(self._last_end, self.heard - ms_to_samples(self.config.prefix_padding_ms))

    @property
    def speech_end(self) -> int:
        """Where the stretch would end if its pause went on, and without a pause the end of what was fed."""
        if self._stretch is None or self._stretch.pause is None:
            return self._buffer.end
        return self._stretch.pause * FRAME_SAMPLES + self.config.suffix_samples

    def speech(self, start: int, end: int) -> Speech:
        """These samples of the stretch that has begun."""
        return Speech(self._buffer.slice(start, end), samples_to_ms(start), self._probabilities.mean(start, end))

    def _step(self, frame: int, probability: float) -> Speech | None:
        config = self.config
        is_loud = probability >= config.threshold
        if self._stretch is None:
            if is_loud:
                start = frame * FRAME_SAMPLES - ms_to_samples(config.prefix_padding_ms)
                self._stretch = Stretch(max(start, self._last_end), first_loud=frame)
            return None
        stretch = self._stretch
        if is_loud:
            stretch.pause = None
            stretch.first_loud = frame if stretch.first_loud is None else stretch.first_loud
        elif probability < config.exit_threshold and stretch.pause is None:
            stretch.pause = frame
        return self._end_if_due(stretch, end_frame=frame + 1)

    def _end_if_due(self, stretch: Stretch, end_frame: int) -> Speech | None:
        config = self.config
        now = end_frame * FRAME_SAMPLES
        if stretch.pause is not None:
            n_quiet = end_frame - stretch.pause
            silence_ms = config.silence_ms if stretch.first_loud is not None else min(config.silence_ms, _REST_SILENCE_MS)
            if n_quiet * FRAME_SAMPLES >= ms_to_samples(silence_ms):
                return self._end(stretch, stretch.pause * FRAME_SAMPLES + config.suffix_samples)
            if n_quiet >= _SHORT_PAUSE_FRAMES and now - stretch.start > ms_to_samples(config.soft_max_ms):
                return self._cut(stretch, max(stretch.start, stretch.pause * FRAME_SAMPLES), now, cut_in_speech=False)
        if now + FRAME_SAMPLES - stretch.start > ms_to_samples(config.hard_max_ms):
            # Never in the first half: what is cut off must be worth recognising.
            window = max(now - ms_to_samples(_CUT_WINDOW_MS), (stretch.start + now) // 2)
            return self._cut(stretch, window, now, cut_in_speech=True)
        return None

    def _end(self, stretch: Stretch, end: int) -> Speech | None:
        """Back to silence. None when the stretch is not worth a Speech."""
        self._stretch = None
        if not stretch.is_speech(end, ms_to_samples(self.config.min_speech_ms)):
            return None
        return self._emit(stretch.start, end, cut_in_speech=False)

    def _cut(self, stretch: Stretch, window: int, now: int, *, cut_in_speech: bool) -> Speech | None:
        """Ends the stretch at the quietest frame of the samples window to now and starts the next there."""
        window = -(-window // FRAME_SAMPLES) * FRAME_SAMPLES
        at = window + quietest_point(self._buffer.slice(window, now), FRAME_SAMPLES)
        first_loud = self._probabilities.first_at_least(self.config.threshold, at // FRAME_SAMPLES)
        self._stretch = Stretch(at, first_loud, is_rest=True, pause=stretch.pause)
        if not stretch.is_speech(now, ms_to_samples(self.config.min_speech_ms)):
            return None
        return self._emit(stretch.start, at, cut_in_speech=cut_in_speech)

    def _emit(self, start: int, end: int, *, cut_in_speech: bool) -> Speech:
        self._last_end = end
        samples = self._buffer.slice(start, end)
        return Speech(samples, samples_to_ms(start), self._probabilities.mean(start, end), cut_in_speech)

    def _forget(self) -> None:
        needed = self.needed
        self._buffer.forget_before(needed)
        self._probabilities.forget_before(needed // FRAME_SAMPLES)


class WholeSegmenter:
    """Detection off: every sample is in exactly one piece of at most soft_max_ms, cut at the quietest frame of its last 3 s."""

    def __init__(self, soft_max_ms: int = 30_000) -> None:
        if soft_max_ms < (least_ms := 2 * samples_to_ms(FRAME_SAMPLES)):
            raise ValueError(f"soft_max_ms: {soft_max_ms} is below {least_ms}")
        self.soft_max_ms = soft_max_ms  # may be changed at any time
        self._buffer = SampleBuffer()

    def feed(self, samples: Samples) -> list[Speech]:
        self._buffer.append(samples)
        speeches: list[Speech] = []
        max_samples = ms_to_samples(self.soft_max_ms)
        while self._buffer.end - self._buffer.start > max_samples:
            end = self._buffer.start + max_samples
            window = end - min(ms_to_samples(_CUT_WINDOW_MS), max_samples // 2)
            speeches.append(self._take(window + quietest_point(self._buffer.slice(window, end), FRAME_SAMPLES)))
        return speeches

    def finish(self) -> list[Speech]:
        """The rest, if any. More may be fed: then it was the end of a part."""
        return [self._take(self._buffer.end)] if self._buffer.end > self._buffer.start else []

    @property
    def start(self) -> int:
        """Sample where the piece begins that is growing."""
        return self._buffer.start

    @property
    def end(self) -> int:
        """Sample up to which audio was fed."""
        return self._buffer.end

    def speech(self) -> Speech:
        """The piece that is growing."""
        return Speech(self._buffer.slice(self.start, self.end), samples_to_ms(self.start))

    def _take(self, end: int) -> Speech:
        start = self._buffer.start
        speech = Speech(self._buffer.slice(start, end), samples_to_ms(start))
        self._buffer.forget_before(end)
        return speech
