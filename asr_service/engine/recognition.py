"""From one Work to its Hypothesis: decoding once when all is well, and again where the first reply cannot be what was said.

how the reply ended                        what comes of it
by itself                                  it stands, whatever it repeats
at the user's limit (MAX_NEW_TOKENS)       it stands; TRUNCATED
in a loop, or at our own budget            the audio is cut in two at its quietest point and each half recognised, and so on;
                                           REPETITION_RECOVERED if there was a loop
the same, and the audio too short to cut   at the budget: it stands; TRUNCATED. In a loop: as many turns of it stand as fit into
                                           the audio, one at least; REPETITION_RECOVERED and TRUNCATED
as a copy of the context                   the audio is recognised again without the context. If that sounds alike, the copy was
                                           said and stands; if not, the second text does; CONTEXT_LEAK_REMOVED

Only the first decoding tells its partial texts: what comes later is about a piece, or about other words. All decodings of a
Work keep its arrival, priority and deadline, so they go before what came later; if one fails, the others are cancelled.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

from asr_service.audio.sample_buffer import quietest_point
from asr_service.decoding.budget import TOKENS_PER_S, token_budget
from asr_service.decoding.joining import join_texts, most_spoken
from asr_service.decoding.leak import looks_leaked, sounds_alike
from asr_service.decoding.prompt_context import prompt_context
from asr_service.decoding.repetition import find_loop
from asr_service.decoding.reply import FinishReason, Reply
from asr_service.decoding.word_scores import TokenScores
from asr_service.languages import Language
from asr_service.request import SAMPLE_RATE, Hypothesis, Quality, Speech, TokenUse, Work, samples_to_ms

MIN_PIECE_SAMPLES = 2 * SAMPLE_RATE
_CUT_FRAME_SAMPLES = 512


@dataclass(frozen=True, slots=True)
class Attempt:
    """One decoding of one Work. Times in seconds."""

    reply: Reply
    finish: FinishReason
    queue_s: float
    run_s: float
    tokens: TokenUse


AttemptWork = Callable[[Work], Awaitable[Attempt]]
"""Decodes once. Raises AsrError. Cancelling it frees everything."""


async def recognize(work: Work, attempt: AttemptWork, new_uid: Callable[[], int], max_new_tokens: int = 0) -> Hypothesis:
    """What was said in `work`. Raises what `attempt` raises.

    `new_uid` gives uids for further decodings, different from those of all works. `max_new_tokens` is the user's limit, 0 for
    none.
    """
    heard = await _Recognition(attempt, new_uid, max_new_tokens).hear(work)
    return heard.hypothesis()


async def guess(work: Work, attempt: AttemptWork) -> Hypothesis:
    """What may have been said in a stretch that is not over: one decoding, taken as it is. Raises what `attempt` raises.

    Of a loop as many turns stand as in `recognize`. A copy of the context is no text, since nothing tells yet whether it was
    said.
    """
    made = await attempt(work)
    heard = _Recognition(attempt, lambda: work.uid, 0).judge(work, made)
    if looks_leaked(heard.text, prompt_context(work.options)):
        heard = replace(heard, text="", confidence=None)
    return heard.hypothesis()


@dataclass(frozen=True, slots=True)
class _Heard:
    """What one or more decodings made of a stretch of audio. `is_open`: it may stay so only if nothing else can be tried."""

    work: Work
    text: str
    language: Language | None
    confidence: float | None
    queue_s: float
    run_s: float
    tokens: TokenUse
    flags: frozenset[Quality] = frozenset()
    is_open: bool = False
    scores: TokenScores = ()

    def after(self, earlier: _Heard, *flags: Quality) -> _Heard:
        """This one, with what an earlier decoding of the same audio has cost and shown."""
        run_s, tokens = earlier.run_s + self.run_s, earlier.tokens + self.tokens
        return replace(self, queue_s=earlier.queue_s, run_s=run_s, tokens=tokens, flags=self.flags.union(flags))

    def hypothesis(self) -> Hypothesis:
        return Hypothesis(
            self.text,
            self.language,
            confidence=self.confidence,
            queue_s=self.queue_s,
            run_s=self.run_s,
            flags=self.flags,
            tokens=self.tokens,
            token_scores=self.scores,
        )


@dataclass(frozen=True, slots=True)
class _Recognition:
    """How one Work is recognised."""

    attempt: AttemptWork
    new_uid: Callable[[], int]
    max_new_tokens: int

    async def hear(self, work: Work) -> _Heard:
        heard = self.judge(work, await self.attempt(work))
        if looks_leaked(heard.text, prompt_context(work.options)):
            heard = await self._hear_without_context(heard)
        if heard.is_open and can_cut(work.speech):
            heard = await self._hear_in_two(heard)
        return heard

    def judge(self, work: Work, attempt: Attempt) -> _Heard:
        """What this decoding alone makes of it."""
        reply, duration_s = attempt.reply, work.speech.duration_ms / 1000
        text, flags = reply.text, frozenset[Quality]()
        is_open = attempt.finish is not FinishReason.STOP and not self._is_at_users_limit(reply, duration_s)
        if attempt.finish is not FinishReason.STOP:
            flags |= {Quality.TRUNCATED}
        if is_open and (loop := find_loop(reply.ids)) is not None:
            flags |= {Quality.REPETITION_RECOVERED}
            n_turns = max(1, (math.floor(TOKENS_PER_S * duration_s) - loop.start) // loop.period)
            text = reply.text_of(loop.start + n_turns * loop.period)
        mean_logprob = reply.mean_logprob
        confidence = math.exp(min(mean_logprob, 0.0)) if text and mean_logprob is not None else None
        times = (attempt.queue_s, attempt.run_s)
        scores = token_scores(reply, text) if work.options.word_confidence else ()
        return _Heard(work, text, reply.language, confidence, *times, attempt.tokens, flags, is_open, scores)

    def _is_at_users_limit(self, reply: Reply, duration_s: float) -> bool:
        return 0 < self.max_new_tokens <= len(reply.ids) and self.max_new_tokens < token_budget(duration_s)

    async def _hear_without_context(self, first: _Heard) -> _Heard:
        options = replace(first.work.options, context="", phrases=())
        work = replace(first.work, uid=self.new_uid(), options=options, on_partial=None)
        second = self.judge(work, await self.attempt(work))
        seen = first.flags - {Quality.TRUNCATED}
        if not await asyncio.to_thread(sounds_alike, first.text, second.text):  # slow for long texts
            return second.after(first, *seen, Quality.CONTEXT_LEAK_REMOVED)
        if first.is_open and not second.is_open:
            return second.after(first, *seen)
        return replace(first, run_s=first.run_s + second.run_s, tokens=first.tokens + second.tokens)

    async def _hear_in_two(self, whole: _Heard) -> _Heard:
        work = whole.work
        pieces = [replace(work, uid=self.new_uid(), speech=half, on_partial=None) for half in cut_in_two(work.speech)]
        heard = await _all_of([self.hear(piece) for piece in pieces])
        return _joined(work, heard).after(whole, *(whole.flags - {Quality.TRUNCATED}))


def can_cut(speech: Speech) -> bool:
    """Whether both halves would be long enough to be worth recognising."""
    return len(speech.samples) >= 2 * MIN_PIECE_SAMPLES


def cut_in_two(speech: Speech) -> tuple[Speech, Speech]:
    """At the quietest point of the middle third, as far as both halves stay long enough."""
    samples = speech.samples
    first = max(len(samples) // 3, MIN_PIECE_SAMPLES)
    last = len(samples) - first
    at = first + quietest_point(samples[first:last], _CUT_FRAME_SAMPLES)
    return (
        replace(speech, samples=samples[:at], cut_in_speech=True),
        replace(speech, samples=samples[at:], start_ms=speech.start_ms + samples_to_ms(at)),
    )


def token_scores(reply: Reply, text: str) -> TokenScores:
    """Where in the text, which the first tokens of the reply make, each of them ends, and its log-probability."""
    ends = [len(reply.text_of(n)) for n in range(1, len(reply.ids) + 1)]
    n_text = next((n for n, end in enumerate(ends, start=1) if end >= len(text)), len(ends))
    return tuple(zip(ends[:n_text], reply.logprobs[:n_text], strict=True))


def _joined(work: Work, pieces: list[_Heard]) -> _Heard:
    """The pieces of a work, in order. The confidence is the mean over the time that has text."""
    spoken = [(piece, len(piece.work.speech.samples)) for piece in pieces if piece.text]
    sure = [(piece.confidence, n) for piece, n in spoken if piece.confidence is not None]
    return _Heard(
        work,
        text=join_texts(piece.text for piece in pieces),
        language=work.options.language or most_spoken((piece.language, n) for piece, n in spoken),
        confidence=sum(confidence * n for confidence, n in sure) / sum(n for _, n in sure) if sure else None,
        queue_s=0.0,
        run_s=sum(piece.run_s for piece in pieces),
        tokens=sum((piece.tokens for piece in pieces), TokenUse()),
        flags=frozenset[Quality]().union(*(piece.flags for piece in pieces)),
    )


async def _all_of(hearings: list[Coroutine[Any, Any, _Heard]]) -> list[_Heard]:
    """All results, or the first failure once the others are cancelled."""
    tasks = [asyncio.create_task(hearing) for hearing in hearings]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        del tasks  # a failed task and this frame would hold each other, and the samples, until the collector runs
