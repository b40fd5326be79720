"""Stretches that were cut while somebody spoke are heard from a little earlier on, and joined where both heard the same.

Pure: which sound each stretch is recognised with, and what becomes of two results at a cut.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from asr_service.decoding.seams import reconcile
from asr_service.request import Hypothesis, Samples, SegmentResult, Speech, TokenUse, ms_to_samples, samples_to_ms


@dataclass(frozen=True, slots=True)
class Stretch:
    """Speech, and what of the source is heard to recognise it. `lead` samples of that belong to the stretch before.

    is_open: what comes next is heard with the end of this one, and may change it.
    """

    speech: Speech
    heard: Speech
    lead: int = 0
    is_open: bool = False


class LeadIns:
    """Gives each stretch of one source, in order, what it is heard with: after a cut in speech, `lead_ms` of what was before,
    but no more than a quarter of it. `lead_ms` 0: nothing is heard twice.
    """

    def __init__(self, lead_ms: int) -> None:
        self._n_lead = ms_to_samples(lead_ms)
        self._tail: Samples | None = None
        self._end_ms = 0

    def stretch(self, speech: Speech) -> Stretch:
        n_next = min(self._n_lead, len(speech.samples) // 4) if speech.cut_in_speech else 0
        tail, is_next = self._tail, abs(speech.start_ms - self._end_ms) <= 1  # both are rounded
        self._tail = speech.samples[-n_next:].copy() if n_next else None  # not a view of all
        self._end_ms = speech.end_ms
        if tail is None or not is_next:
            return Stretch(speech, speech, is_open=n_next > 0)
        samples = np.concatenate([tail, speech.samples])
        start_ms = max(0, speech.start_ms - samples_to_ms(len(tail)))
        return Stretch(speech, replace(speech, samples=samples, start_ms=start_ms), len(tail), is_open=n_next > 0)


def joined(before: SegmentResult, after: SegmentResult, stretch: Stretch) -> tuple[SegmentResult, SegmentResult] | None:
    """Both results without what they say twice. `after` is what was heard in `stretch`, lead included. None: they do not agree.

    With word times the segments' edge moves to where the words are divided.
    """
    start_ms, cut_ms = stretch.heard.start_ms, stretch.speech.start_ms
    seam = reconcile(before.hypothesis, after.hypothesis, start_ms=start_ms, cut_ms=cut_ms)
    if seam is None:
        return None
    n_back = min(ms_to_samples(cut_ms - seam.at_ms), stretch.lead) if seam.at_ms is not None else 0
    left, heard = before.speech, stretch.heard
    first = stretch.lead - n_back
    shorter = replace(left, samples=left.samples[: max(0, len(left.samples) - n_back)])
    longer = replace(heard, samples=heard.samples[first:], start_ms=start_ms + samples_to_ms(first))
    return SegmentResult(before.index, shorter, seam.before), SegmentResult(after.index, longer, seam.after)


def heard_again(first: Hypothesis, second: Hypothesis) -> Hypothesis:
    """What came of the second attempt, with the cost of both."""
    has_tokens = first.tokens is not None or second.tokens is not None
    tokens = (first.tokens or TokenUse()) + (second.tokens or TokenUse()) if has_tokens else None
    return replace(second, queue_s=first.queue_s + second.queue_s, run_s=first.run_s + second.run_s, tokens=tokens)
