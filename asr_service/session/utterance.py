"""One utterance from its announcement to its final: which wish about it is out, and what has been heard."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from asr_service.request import Hypothesis, Quality, RecognitionOptions, SegmentResult, Speech
from asr_service.session.commit import Commitment
from asr_service.session.endpoint import Notice
from asr_service.session.events import Final, Partial, Wish


def is_same(one: Speech, other: Speech) -> bool:
    """Are they the same samples of a session?"""
    return one.start_ms == other.start_ms and len(one.samples) == len(other.samples)


@dataclass(eq=False, slots=True)
class Utterance:
    """`shown` is the latest partial that the client has seen, `held` one that waits for the utterance before it."""

    number: int
    options: RecognitionOptions
    start: int  # sample
    ended: Speech | None = None
    wish: Wish | None = None  # that is out
    wished_s: float = 0.0  # when it went out
    heard: int = 0  # sample up to which a wish was answered
    wished: int = 0  # sample up to which the last wish reached
    early: tuple[Speech, Hypothesis] | None = None  # decided in case it ends there
    early_end: int | None = None  # sample where that is or was asked for last
    eager_end: Notice | None = None  # to be told once its text is there
    held: Partial | None = None
    shown: Partial | None = None
    final: Final | None = None
    latest: Hypothesis = field(default_factory=lambda: Hypothesis("", None))  # of the answers so far
    commitment: Commitment = field(default_factory=Commitment)

    def partial(self, hypothesis: Hypothesis, at: int, *, stable_only: bool) -> Partial | None:
        """What a round's text comes to; None when there is nothing new to show."""
        draft = self.commitment.update(hypothesis.text, at)
        tail = draft.tail[: draft.stable_chars] if stable_only else draft.tail
        before = self.held or self.shown
        known = before.committed if before is not None else ""
        partial = Partial(
            utterance=self.number,
            committed_delta=draft.committed[len(self.shown.committed if self.shown is not None else "") :],
            committed=draft.committed,
            tail=tail,
            stable_chars=min(draft.stable_chars, len(tail)),
            words=hypothesis.words,
        )
        is_news = draft.committed != known or tail != (before.tail if before is not None else "")
        return partial if is_news or (before is not None and before.stable_chars != partial.stable_chars) else None

    def conclude(self, hypothesis: Hypothesis) -> None:
        """The decision about the whole of it is there."""
        assert self.ended is not None, "only an ended utterance is decided"  # noqa: S101  # narrows the type
        shown = self.shown.committed if self.shown is not None else ""
        result = SegmentResult(self.number, self.ended, hypothesis)
        self.wish = None
        self.held = None
        self.final = Final(result, revised=not hypothesis.text.startswith(shown))

    def truncate(self) -> None:
        """There is no time to decide: what was heard last has to do."""
        self.conclude(replace(self.latest, flags=self.latest.flags | {Quality.TRUNCATED}))
