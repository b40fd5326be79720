"""Recovery, against a recogniser that a test scripts."""

import asyncio
import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.decoding.budget import token_budget
from asr_service.decoding.prompt_context import prompt_context
from asr_service.decoding.reply import FinishReason
from asr_service.decoding.transcript import TokenReply
from asr_service.engine.recognition import Attempt, can_cut, cut_in_two, guess, recognize
from asr_service.errors import DeadlineExceeded
from asr_service.languages import ENGLISH, LANGUAGES, Language
from asr_service.request import Hypothesis, Phrase, Priority, Quality, RecognitionOptions, Speech, TokenUse, Work
from tests.unit.decoding.tokens import STOP_ID, TAG_ID, Vocabulary
from tests.unit.engine.works import until

CHINESE = LANGUAGES[0]
SECOND = 16_000


def speech(seconds: float, start_ms: int = 0) -> Speech:
    """Each sample is louder than the one before, and another."""
    return Speech(np.arange(1, int(seconds * SECOND) + 1, dtype=np.float32), start_ms)


def make_work(seconds: float = 10.0, **options: Any) -> Work:
    chosen = RecognitionOptions(**options)
    return Work(7, speech(seconds, start_ms=500), chosen, Priority.BATCH, 3.0, 99.0, on_partial=lambda _: None)


def spoken(text: str, work: Work, *, limit: int = 0, language: str = "English", logprob: float = -0.5) -> Attempt:
    """What the engine's loop makes of a model that says this text. "..." at the end: the last word without end."""
    endless = text.endswith(" ...")
    words = text.removesuffix(" ...").split(" ")
    pieces = [f"language {language}", *dict.fromkeys(words)]
    ids = [0, TAG_ID, *(pieces.index(word, 1) for word in words if word)]
    duration_s = work.speech.duration_ms / 1000
    vocabulary = Vocabulary([pieces[0].encode(), *(f" {piece}".encode() for piece in pieces[1:])])
    reply = vocabulary.reply(max_tokens=token_budget(duration_s, limit), duration_s=duration_s, forced=work.options.language)
    tail: Iterable[int] = itertools.repeat(ids[-1]) if endless else [STOP_ID]
    for token in itertools.chain(ids if work.options.language is None else ids[2:], tail):
        if (finish := reply.accept(token, logprob)) is not None:
            return attempt_of(reply, finish)
    raise AssertionError("a reply always ends")


def attempt_of(reply: TokenReply, finish: FinishReason) -> Attempt:
    return Attempt(reply, finish, queue_s=0.25, run_s=1.0, tokens=TokenUse(audio=100, prompt=10, output=len(reply.ids)))


@dataclass
class Recogniser:
    """Answers as `says` decides, and remembers what it was given."""

    says: Callable[[Work], Attempt]
    works: list[Work] = field(default_factory=list)

    async def attempt(self, work: Work) -> Attempt:
        self.works.append(work)
        await asyncio.sleep(0)
        return self.says(work)

    async def recognize(self, work: Work, limit: int = 0) -> Hypothesis:
        return await recognize(work, self.attempt, itertools.count(-1, -1).__next__, limit)


async def test_a_reply_that_stops_is_the_answer() -> None:
    recogniser = Recogniser(lambda work: spoken("good morning", work, logprob=math.log(0.5)))
    hypothesis = await recogniser.recognize(make_work())

    assert (hypothesis.text, hypothesis.language) == ("good morning", ENGLISH)
    assert hypothesis.confidence == pytest.approx(0.5)
    assert (hypothesis.queue_s, hypothesis.run_s) == (0.25, 1.0)
    assert hypothesis.tokens == TokenUse(100, 10, 4)
    assert hypothesis.flags == frozenset()
    assert len(recogniser.works) == 1


async def test_no_speech_has_no_text_no_language_and_no_confidence() -> None:
    hypothesis = await Recogniser(lambda work: spoken("", work, language="None")).recognize(make_work())

    assert (hypothesis.text, hypothesis.language, hypothesis.confidence) == ("", None, None)


@given(st.lists(st.sampled_from(["no", "1", "1", "ha", "2"]), min_size=1, max_size=60), st.booleans())
def test_a_reply_that_stops_comes_out_unchanged_whatever_it_repeats(words: list[str], has_context: bool) -> None:
    work = make_work(context="1 2 no ha" if has_context else "")
    text = " ".join(words)

    hypothesis = asyncio.run(Recogniser(lambda work: spoken(text, work)).recognize(work))

    assert hypothesis.text == text
    assert hypothesis.flags == frozenset()


async def test_at_the_users_limit_the_text_stands_and_says_so() -> None:
    recogniser = Recogniser(lambda work: spoken("one two three four five", work, limit=5))
    hypothesis = await recogniser.recognize(make_work(), limit=5)

    assert hypothesis.text == "one two three"
    assert hypothesis.flags == {Quality.TRUNCATED}
    assert len(recogniser.works) == 1


def looping_if_longer(seconds: float) -> Callable[[Work], Attempt]:
    """Says where it begins, and goes in circles on long audio."""

    def says(work: Work) -> Attempt:
        if work.speech.duration_ms > seconds * 1000:
            return spoken("and on ...", work)
        return spoken(f"from {work.speech.start_ms}", work, logprob=-1.0)

    return says


async def test_a_loop_is_recognised_again_in_pieces_cut_where_it_is_quiet() -> None:
    recogniser = Recogniser(looping_if_longer(6.0))
    work = make_work(10.0)
    work.speech.samples[5 * SECOND : 5 * SECOND + 1024] = 0.0

    hypothesis = await recogniser.recognize(work)
    whole, first, second = recogniser.works
    assert 5 * SECOND <= len(first.speech.samples) <= 5 * SECOND + 1024
    assert hypothesis.text == f"from 500 from {second.speech.start_ms}"
    assert second.speech.start_ms == first.speech.end_ms
    assert hypothesis.flags == {Quality.REPETITION_RECOVERED}
    assert hypothesis.confidence == pytest.approx(math.exp(-1.0))
    assert (hypothesis.queue_s, hypothesis.run_s) == (0.25, 3.0)
    assert hypothesis.tokens is not None
    assert (hypothesis.tokens.audio, hypothesis.tokens.prompt) == (300, 30)
    assert (whole.on_partial, first.on_partial, second.on_partial) == (work.on_partial, None, None)


async def test_pieces_keep_everything_else_and_have_uids_of_their_own() -> None:
    recogniser = Recogniser(looping_if_longer(3.0))
    work = make_work(20.0, language=ENGLISH)

    await recogniser.recognize(work)
    assert len(recogniser.works) > 10
    assert len({piece.uid for piece in recogniser.works}) == len(recogniser.works)
    for piece in recogniser.works:
        assert (piece.options, piece.priority) == (work.options, work.priority)
        assert (piece.arrival_s, piece.deadline_s) == (work.arrival_s, work.deadline_s)


@given(st.floats(0.1, 60.0), st.floats(0.1, 60.0))
def test_the_last_pieces_cover_the_audio_once_and_are_long_enough(seconds: float, enough: float) -> None:
    recogniser = Recogniser(looping_if_longer(enough))
    work = make_work(seconds)

    asyncio.run(recogniser.recognize(work))
    last = [w for w in recogniser.works if w.speech.duration_ms <= enough * 1000 or not can_cut(w.speech)]
    last.sort(key=lambda w: w.speech.start_ms)
    assert np.array_equal(np.concatenate([w.speech.samples for w in last]), work.speech.samples)
    assert all(w.speech.duration_ms >= 2000 for w in recogniser.works[1:])


async def test_a_loop_in_the_shortest_piece_stands_as_often_as_it_could_be_said() -> None:
    hypothesis = await Recogniser(lambda work: spoken("so it goes on ...", work)).recognize(make_work(3.0))

    assert hypothesis.text == "so it goes" + " on" * (3 * 8 - 5)
    assert hypothesis.flags == {Quality.REPETITION_RECOVERED, Quality.TRUNCATED}


async def test_a_loop_behind_much_text_stands_once() -> None:
    before = " ".join(f"w{n}" for n in range(30))
    hypothesis = await Recogniser(lambda work: spoken(f"{before} on ...", work)).recognize(make_work(3.5))

    assert hypothesis.text == f"{before} on"


async def test_a_full_budget_without_a_loop_is_cut_too_and_not_called_a_loop() -> None:
    def says(work: Work) -> Attempt:
        n_words = round(work.speech.duration_ms * 12 / 1000)  # faster than our budget thinks
        return spoken(" ".join(f"{work.speech.start_ms}-{n}" for n in range(n_words)), work)

    hypothesis = await Recogniser(says).recognize(make_work(30.0))
    assert len(hypothesis.text.split()) == pytest.approx(30 * 12, abs=10)
    assert hypothesis.flags == frozenset()


async def test_what_fills_the_budget_of_the_shortest_piece_is_truncated() -> None:
    text = " ".join(f"w{n}" for n in range(1000))
    hypothesis = await Recogniser(lambda work: spoken(text, work)).recognize(make_work(3.0))

    assert hypothesis.text == " ".join(f"w{n}" for n in range(3 * 8 + 32 - 2))
    assert hypothesis.flags == {Quality.TRUNCATED}


async def test_pieces_are_joined_as_their_script_is_written_in_the_language_most_spoken() -> None:
    def says(work: Work) -> Attempt:
        if work.speech.duration_ms > 9000:
            return spoken("嗯 ...", work, language="English")
        return spoken("你好", work, language="Chinese")

    hypothesis = await Recogniser(says).recognize(make_work(10.0))
    assert (hypothesis.text, hypothesis.language) == ("你好你好", CHINESE)


async def test_confidence_counts_by_duration_where_there_is_text() -> None:
    def says(work: Work) -> Attempt:
        if work.speech.duration_ms > 9000:
            return spoken("on ...", work)
        if work.speech.start_ms > 500:
            return spoken("", work, language="None")
        return spoken("yes", work, logprob=math.log(0.25))

    hypothesis = await Recogniser(says).recognize(make_work(10.0))
    assert hypothesis.text == "yes"
    assert hypothesis.confidence == pytest.approx(0.25)


async def test_a_piece_that_fails_cancels_the_other_and_is_the_answer() -> None:
    cancelled: list[int] = []

    async def attempt(work: Work) -> Attempt:
        if work.uid == 7:
            return spoken("on ...", work)
        if work.speech.start_ms > 500:
            raise DeadlineExceeded("too late")
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(work.uid)
        raise AssertionError

    with pytest.raises(DeadlineExceeded, match="too late"):
        await recognize(make_work(), attempt, itertools.count(100).__next__)
    assert len(cancelled) == 1


async def test_leaving_cancels_all_pieces() -> None:
    running: set[int] = set()

    async def attempt(work: Work) -> Attempt:
        if work.uid == 7:
            return spoken("on ...", work)
        running.add(work.uid)
        try:
            await asyncio.Event().wait()
        finally:
            running.discard(work.uid)
        raise AssertionError

    task = asyncio.create_task(recognize(make_work(), attempt, itertools.count(100).__next__))
    await until(lambda: len(running) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running == set()


CONTEXT = "Kubernetes, Prometheus, Grafana"
COPY = "Kubernetes, Prometheus, Grafana"


def hearing(with_context: str, without: str) -> Recogniser:
    return Recogniser(lambda work: spoken(with_context if prompt_context(work.options) else without, work))


@pytest.mark.parametrize("without", ["", "thank you"])
async def test_a_context_that_nobody_spoke_is_removed(without: str) -> None:
    recogniser = hearing(COPY, without)
    hypothesis = await recogniser.recognize(make_work(context=CONTEXT, phrases=(Phrase("Loki"),)))

    assert hypothesis.text == without
    assert hypothesis.flags == {Quality.CONTEXT_LEAK_REMOVED}
    first, second = recogniser.works
    assert (second.on_partial, second.options.context, second.options.phrases) == (None, "", ())
    assert second.uid != first.uid
    assert (hypothesis.queue_s, hypothesis.run_s) == (0.25, 2.0)
    assert hypothesis.tokens is not None
    assert hypothesis.tokens.audio == 200


@pytest.mark.parametrize("without", ["kubernetes prometheus grafana", "cuban eddies promise you grafana"])
async def test_a_context_that_was_spoken_stands_as_the_context_spells_it(without: str) -> None:
    recogniser = hearing(COPY, without)
    hypothesis = await recogniser.recognize(make_work(context=CONTEXT))

    assert hypothesis.text == COPY
    assert hypothesis.flags == frozenset()
    assert hypothesis.run_s == 2.0


async def test_leaked_phrases_are_removed_too() -> None:
    phrases = (Phrase("Kubernetes"), Phrase("Prometheus"), Phrase("Grafana"))
    hypothesis = await hearing(COPY, "").recognize(make_work(phrases=phrases))

    assert hypothesis.text == ""
    assert hypothesis.flags == {Quality.CONTEXT_LEAK_REMOVED}


async def test_speech_of_its_own_costs_no_second_decoding() -> None:
    recogniser = hearing("we run Grafana on Kubernetes now", "")
    hypothesis = await recogniser.recognize(make_work(context=CONTEXT))

    assert len(recogniser.works) == 1
    assert hypothesis.flags == frozenset()


async def test_a_context_that_comes_back_in_a_loop_is_removed_without_pieces() -> None:
    recogniser = hearing("Grafana Grafana ...", "hello")
    hypothesis = await recogniser.recognize(make_work(context="Grafana"))

    assert hypothesis.text == "hello"
    assert hypothesis.flags == {Quality.CONTEXT_LEAK_REMOVED, Quality.REPETITION_RECOVERED}
    assert len(recogniser.works) == 2


async def test_a_loop_without_the_context_is_cut_without_it() -> None:
    def says(work: Work) -> Attempt:
        if prompt_context(work.options):
            return spoken(COPY, work)
        return spoken("on ..." if work.speech.duration_ms > 9000 else "fine", work)

    recogniser = Recogniser(says)
    hypothesis = await recogniser.recognize(make_work(context=CONTEXT))

    assert hypothesis.text == "fine fine"
    assert hypothesis.flags == {Quality.CONTEXT_LEAK_REMOVED, Quality.REPETITION_RECOVERED}
    assert [bool(work.options.context) for work in recogniser.works] == [True, False, False, False]


@given(st.integers(4 * SECOND, 20 * SECOND), st.integers(0, 2**32 - 1))
def test_a_cut_loses_no_sample(n_samples: int, seed: int) -> None:
    samples = np.random.default_rng(seed).normal(size=n_samples).astype(np.float32)
    whole = Speech(samples, 123, 0.5, cut_in_speech=True)

    first, second = cut_in_two(whole)
    assert np.array_equal(np.concatenate([first.samples, second.samples]), samples)
    assert first.start_ms == whole.start_ms
    assert abs(second.end_ms - whole.end_ms) <= 1
    assert min(len(first.samples), len(second.samples)) >= 2 * SECOND
    assert min(len(first.samples), len(second.samples)) >= n_samples // 3


def test_a_language_may_be_forced_on_pieces_too() -> None:
    german = Language("de", "German")
    recogniser = Recogniser(looping_if_longer(6.0))

    hypothesis = asyncio.run(recogniser.recognize(make_work(10.0, language=german)))
    assert hypothesis.language == german


async def test_a_guess_is_taken_as_it_is() -> None:
    recogniser = Recogniser(lambda work: spoken("and on ...", work))

    hypothesis = await guess(make_work(), recogniser.attempt)

    assert len(recogniser.works) == 1
    assert hypothesis.text.startswith("and on on on")
    assert hypothesis.flags == {Quality.TRUNCATED, Quality.REPETITION_RECOVERED}


async def test_a_guess_that_is_a_copy_of_the_context_says_nothing_yet() -> None:
    recogniser = Recogniser(lambda work: spoken("kitchen bedroom garden", work))

    hypothesis = await guess(make_work(context="kitchen bedroom garden"), recogniser.attempt)

    assert len(recogniser.works) == 1
    assert (hypothesis.text, hypothesis.confidence) == ("", None)
