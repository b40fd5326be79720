"""A live session: what is said to the client and what is asked of the recogniser, and when.

Rules, kept by tests/unit/session:

1. At most one wish about an utterance is out. A Guess is due when the recognisable audio has grown by the interval since the
   last wish, the first one at once. In a pause that has brought in all that the utterance can come to hold, an early Decide
   takes its place: its answer is a partial now, and the final without further work if the pause goes on. Silence is no reason
   for a wish.
2. An announced utterance gets exactly one Final, whatever fails on the way. Text comes in the order of utterances: what is
   known of a later one is held until the Final before it is out. Speech is told of at once.
3. Between an EAGER_END and its END without a RESUMED the text does not change.
4. A marker is reached when all utterances that began before it have their Final. Speech less than a frame (32 ms) before it
   that goes on behind it counts as behind it.
5. Ended is the last event and comes once, when everything is decided.
6. Rounds that take long make the next ones rarer (the interval grows, and Throttled says so); nothing else is given up.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np
from numpy.typing import NDArray

from asr_service.request import (
    Cursors,
    Hypothesis,
    RecognitionOptions,
    Samples,
    Speech,
    ms_to_samples,
    samples_to_ms,
)
from asr_service.session.endpoint import Notice, make_endpointer
from asr_service.session.events import (
    Decide,
    Ended,
    EndReason,
    Final,
    Guess,
    Output,
    SpeechEventType,
    SpeechNoticed,
    Wish,
)
from asr_service.session.pace import Pace
from asr_service.session.progress import Progress
from asr_service.session.settings import SessionSettings
from asr_service.session.utterance import Utterance, is_same


class Session:
    """See the package. `now_s` is one monotonic clock. `first_sample` (at 16 kHz) and `first_utterance`: where a session that
    was begun elsewhere goes on; times on the audio clock include it, utterances are counted on."""

    def __init__(
        self,
        settings: SessionSettings,
        options: RecognitionOptions,
        *,
        now_s: float,
        first_sample: int = 0,
        first_utterance: int = 0,
    ) -> None:
        self.settings = settings
        self._options = options
        self._first_sample = first_sample  # all other positions count from it
        self._endpointer = make_endpointer(settings.endpointing)
        self._numbers = count(first_utterance)
        self._tickets = count()
        self._open: Utterance | None = None  # announced and not ended
        self._undecided: list[Utterance] = []  # in order, the open one last
        self._pace = Pace(settings.partials.interval_ms)
        self._progress = Progress(first_sample)
        self._began_s = now_s
        self._fed_s = now_s
        self._quiet_since = 0  # sample where speech last ended
        self._has_spoken = False
        self._ending: EndReason | None = None
        self._is_over = False

    @property
    def cursors(self) -> Cursors:
        return self._progress.cursors

    @property
    def n_undecided(self) -> int:
        """Utterances that have ended and wait for their final."""
        return sum(utterance.ended is not None for utterance in self._undecided)

    @property
    def is_over(self) -> bool:
        return self._is_over

    @property
    def next_tick_s(self) -> float | None:
        """When `tick` has something to do."""
        if self._ending is not None:
            return None
        endpointing = self.settings.endpointing
        times = []
        if endpointing.start_timeout_ms is not None and not self._has_spoken:
            times.append(self._began_s + endpointing.start_timeout_ms / 1000)
        if endpointing.idle_timeout_ms is not None:
            times.append(self._fed_s + endpointing.idle_timeout_ms / 1000)
        return min(times, default=None)

    # What the client says

    def feed(self, samples: Samples, probabilities: NDArray[np.float32], now_s: float) -> list[Output]:
        """Samples (n,), and the probabilities (m,) of the frames of 512 that they completed. Nothing after the end."""
        if self._ending is not None:
            return []
        self._fed_s = now_s
        outputs = self._take(self._endpointer.feed(samples, probabilities), now_s)
        return outputs + self._advance(now_s) + self._end_of_patience(now_s)

    def flush(self, now_s: float) -> list[Output]:
        """Ends the utterance here; the session goes on."""
        return self._take(self._endpointer.flush(), now_s) + self._advance(now_s)

    def mark(self, id_: str, now_s: float) -> list[Output]:
        """MarkerReached will come when everything before is decided."""
        self._progress.mark(id_, self._endpointer.received)
        return self._advance(now_s)

    def patch(
        self, now_s: float, *, options: RecognitionOptions | None = None, settings: SessionSettings | None = None
    ) -> list[Output]:
        """Other options and endpointing from the next utterance on, other partials at once.

        Raises InvalidValue for a change from or to EndpointMode.OFF.
        """
        if settings is not None:
            self._endpointer.change(settings.endpointing)
            self.settings = settings
            self._pace.interval_ms = settings.partials.interval_ms
        if options is not None:
            self._options = options
        return self._advance(now_s)

    def finish(self, now_s: float) -> list[Output]:
        """There is no more audio."""
        return self.end(EndReason.FINISHED, now_s)

    def end(self, reason: EndReason, now_s: float) -> list[Output]:
        """Nothing more will be fed, for another reason than `finish` perhaps. The first reason stands."""
        if self._ending is not None:
            return []
        outputs = self._take(self._endpointer.flush(), now_s)
        self._ending = reason
        return outputs + self._advance(now_s)

    def truncate(self, reason: EndReason, now_s: float) -> list[Output]:
        """Ends at once, without waiting for the recogniser: what is not decided becomes a final with the text that is known,
        flagged TRUNCATED. Answers that come later are ignored."""
        outputs = self.end(reason, now_s)
        for utterance in self._undecided:
            if utterance.final is None:
                utterance.truncate()
        return [*(output for output in outputs if not isinstance(output, Guess | Decide)), *self._advance(now_s)]

    def tick(self, now_s: float) -> list[Output]:
        """Time has passed."""
        endpointing = self.settings.endpointing
        start_ms, idle_ms = endpointing.start_timeout_ms, endpointing.idle_timeout_ms
        if start_ms is not None and not self._has_spoken and now_s >= self._began_s + start_ms / 1000:
            return self._time_out(EndReason.START_TIMEOUT, now_s)
        if idle_ms is not None and now_s >= self._fed_s + idle_ms / 1000:
            return self._time_out(EndReason.IDLE_TIMEOUT, now_s)
        return []

    # What the recogniser says

    def guessed(self, ticket: int, hypothesis: Hypothesis, now_s: float) -> list[Output]:
        """The answer to a Guess."""
        utterance = self._answered(ticket)
        if utterance is None:
            return []
        utterance.latest = hypothesis
        end = self._settle(utterance, now_s)
        return self._show(utterance, hypothesis, end) + self._advance(now_s)

    def decided(self, ticket: int, hypothesis: Hypothesis, now_s: float) -> list[Output]:
        """The answer to a Decide."""
        utterance = self._answered(ticket)
        if utterance is None:
            return []
        assert utterance.wish is not None, "it was found by its wish"  # noqa: S101  # narrows the type
        speech, utterance.latest = utterance.wish.speech, hypothesis
        end = self._settle(utterance, now_s)
        if utterance.ended is not None:
            utterance.conclude(hypothesis)
            return self._advance(now_s)
        utterance.early = (speech, hypothesis)
        outputs = self._show(utterance, hypothesis, end)
        return outputs + self._tell_eager_end(utterance) + self._advance(now_s)

    def missed(self, ticket: int, now_s: float) -> list[Output]:
        """A Guess or an early Decide came to nothing."""
        utterance = self._answered(ticket)
        if utterance is None:
            return []
        self._settle(utterance, now_s)
        outputs: list[Output] = [] if utterance.ended is None else [self._decide(utterance, utterance.ended, now_s)]
        return outputs + self._advance(now_s)

    def _answered(self, ticket: int) -> Utterance | None:
        found = (one for one in self._undecided if one.wish is not None and one.wish.ticket == ticket)
        return next(found, None)

    def _settle(self, utterance: Utterance, now_s: float) -> int:
        """Its wish is out no more; the sample up to which it reached."""
        utterance.wish = None
        self._pace.learn(now_s - utterance.wished_s)
        utterance.heard = max(utterance.heard, utterance.wished)
        return utterance.wished

    # Utterances

    def _take(self, notices: list[Notice], now_s: float) -> list[Output]:
        outputs: list[Output] = []
        for notice in notices:
            outputs += self._take_one(notice, now_s)
        return outputs

    def _take_one(self, notice: Notice, now_s: float) -> list[Output]:
        if notice.type is SpeechEventType.START:
            self._has_spoken = True
            self._open = Utterance(next(self._numbers), self._options, notice.start)
            self._undecided.append(self._open)
            return [self._noticed(notice, self._open)]
        utterance = self._open
        assert utterance is not None, "the endpointer notices nothing else before a START"  # noqa: S101  # narrows the type
        if notice.speech is not None:
            return [self._noticed(notice, utterance), *self._end_utterance(utterance, notice.speech, notice.at, now_s)]
        if notice.type is SpeechEventType.EAGER_END:
            utterance.eager_end = notice
            return self._tell_eager_end(utterance)
        if notice.type is SpeechEventType.RESUMED:
            was_told = utterance.eager_end is None
            utterance.eager_end = None
            return [self._noticed(notice, utterance)] if was_told else []
        return [self._noticed(notice, utterance)]

    def _end_utterance(self, utterance: Utterance, speech: Speech, at: int, now_s: float) -> list[Output]:
        self._open = None
        self._quiet_since = at
        utterance.eager_end = None
        utterance.ended = speech = self._placed(speech)
        if utterance.early is not None and is_same(utterance.early[0], speech):
            utterance.conclude(utterance.early[1])
            return []
        if isinstance(utterance.wish, Decide) and is_same(utterance.wish.speech, speech):
            return []  # its answer will be the final
        return [self._decide(utterance, speech, now_s)]

    def _tell_eager_end(self, utterance: Utterance) -> list[Output]:
        """Once the text of what would be the end is there, and has been shown."""
        notice = utterance.eager_end
        if notice is None or utterance.early is None or utterance is not self._open or utterance is not self._undecided[0]:
            return []
        if not self._endpointer.is_complete or utterance.early_end != self._endpointer.speech_end:
            return []
        utterance.eager_end = None
        return [self._noticed(notice, utterance)]

    # Wishes

    def _wishes(self, now_s: float) -> list[Output]:
        """Rule 1, for the utterance that is open."""
        utterance, endpointer = self._open, self._endpointer
        if utterance is None:
            return []
        end = endpointer.speech_end
        if endpointer.is_complete:
            if utterance.early_end == end:
                return []  # asked already, whatever came of it
            utterance.early, utterance.early_end = None, end
            return [self._decide(utterance, self._placed(endpointer.speech()), now_s, early_end=end)]
        least = ms_to_samples(self._pace.effective_ms) if utterance.wished else 1
        if (
            not self.settings.partials.enabled
            or utterance.wish is not None
            or end - max(utterance.wished, utterance.start) < least
        ):
            return []
        wish = Guess(next(self._tickets), utterance.number, self._placed(endpointer.speech()), utterance.options)
        return [self._wish(utterance, wish, end, now_s)]

    def _decide(self, utterance: Utterance, speech: Speech, now_s: float, early_end: int | None = None) -> Wish:
        """`early_end`: the sample where it may end; None when it has ended."""
        wish = Decide(next(self._tickets), utterance.number, speech, utterance.options, early_end is not None)
        return self._wish(utterance, wish, self._endpointer.heard if early_end is None else early_end, now_s)

    def _wish(self, utterance: Utterance, wish: Wish, end: int, now_s: float) -> Wish:
        utterance.wish, utterance.wished, utterance.wished_s = wish, end, now_s
        return wish

    # What comes of it

    def _show(self, utterance: Utterance, hypothesis: Hypothesis, at: int) -> list[Output]:
        partials = self.settings.partials
        if not partials.enabled:
            return []
        partial = utterance.partial(hypothesis, at, stable_only=bool(partials.min_stability))
        if partial is None:
            return []
        if utterance is not self._undecided[0]:
            utterance.held = partial
            return []
        utterance.shown = partial
        return [partial]

    def _advance(self, now_s: float) -> list[Output]:
        """Everything that has become possible."""
        outputs = self._finals()
        outputs += self._wishes(now_s)
        outputs += self._tell_progress(is_final=any(isinstance(output, Final) for output in outputs))
        lag_ms = self.cursors.received_ms - self.cursors.decoded_ms if self._undecided else 0
        if (throttled := self._pace.news(lag_ms, now_s)) is not None and not self._is_over:
            outputs.append(throttled)
        if self._ending is not None and not self._undecided and not self._is_over:
            self._is_over = True
            outputs.append(Ended(self._ending))
        return outputs

    def _finals(self) -> list[Output]:
        """Rule 2."""
        outputs: list[Output] = []
        while self._undecided and (final := self._undecided[0].final) is not None:
            outputs.append(final)
            self._undecided.pop(0)
            if self._undecided and (held := self._undecided[0].held) is not None:
                self._undecided[0].held, self._undecided[0].shown = None, held
                outputs.append(held)
                outputs += self._tell_eager_end(self._undecided[0])
        return outputs

    @property
    def _settled(self) -> int:
        """Sample before which everything is decided."""
        if self._undecided:
            return self._undecided[0].start
        return self._endpointer.heard if self._endpointer.is_silent else self._endpointer.needed

    def _tell_progress(self, *, is_final: bool) -> list[Output]:
        received, settled = self._endpointer.received, self._settled
        looked_at = max([settled, *(one.heard for one in self._undecided)])
        if self._ending is not None and not self._undecided:
            settled = looked_at = received
        self._progress.move(received=received, looked_at=looked_at, settled=settled)
        durable = self._undecided[0].start if self._undecided else self._endpointer.needed
        return [*self._progress.reached(settled), *self._progress.durable(durable, is_final=is_final)]

    # Patience

    def _end_of_patience(self, now_s: float) -> list[Output]:
        """On the audio clock."""
        endpointing = self.settings.endpointing
        if self._ending is not None or not self._endpointer.is_silent:
            return []
        heard, start_ms, idle_ms = self._endpointer.heard, endpointing.start_timeout_ms, endpointing.idle_timeout_ms
        if start_ms is not None and not self._has_spoken and heard >= ms_to_samples(start_ms):
            return self._time_out(EndReason.START_TIMEOUT, now_s)
        if idle_ms is not None and heard - self._quiet_since >= ms_to_samples(idle_ms):
            return self._time_out(EndReason.IDLE_TIMEOUT, now_s)
        return []

    def _time_out(self, reason: EndReason, now_s: float) -> list[Output]:
        if self._ending is not None:
            return []
        number = self._open.number if self._open is not None else -1
        at_ms = self._progress.ms(self._endpointer.received)
        noticed = SpeechNoticed(SpeechEventType.TIMEOUT, at_ms, max(number, 0))
        return [noticed, *self.end(reason, now_s)]

    def _noticed(self, notice: Notice, utterance: Utterance) -> SpeechNoticed:
        return SpeechNoticed(notice.type, self._progress.ms(notice.at), utterance.number, notice.probability)

    def _placed(self, speech: Speech) -> Speech:
        return replace(speech, start_ms=speech.start_ms + samples_to_ms(self._first_sample)) if self._first_sample else speech
