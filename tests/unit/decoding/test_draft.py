"""What is expected of a reply, and what may come once it has come true."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr_service.decoding.draft import NO_DRAFT, Draft
from asr_service.decoding.header import HeaderTrie
from tests.unit.decoding.tokens import STOP_ID, TAG_ID, Vocabulary

VOCABULARY, IDS = Vocabulary.of_words("one two three four five six")


def test_a_draft_is_a_reply_without_its_stop_token() -> None:
    reply = VOCABULARY.reply()
    for n, token in enumerate(IDS):
        reply.accept(token, -n / 10)
    reply.accept(STOP_ID, -9.0)

    assert Draft.of(reply) == Draft(tuple(IDS), (0.0, -0.1, -0.2, -0.3, -0.4, -0.5))
    assert Draft.of(VOCABULARY.reply()) == NO_DRAFT


@given(st.integers(1, 12))
def test_within_a_budget_there_is_room_for_one_more_token(budget: int) -> None:
    draft = Draft(tuple(IDS), tuple(-0.1 for _ in IDS)).within(budget)

    assert len(draft.ids) == len(draft.logprobs) == min(len(IDS), budget - 1)
    assert draft.ids == tuple(IDS[: len(draft.ids)])


@given(n_open=st.integers(1, 8))
def test_pinned_tokens_are_said_as_they_were_before(n_open: int) -> None:
    reply, draft = VOCABULARY.reply(), Draft(tuple(IDS), tuple(-0.1 * n for n in range(len(IDS))))

    draft.pin(reply, n_open)

    assert reply.ids == IDS[: max(0, len(IDS) - n_open)]
    assert list(reply.logprobs) == list(draft.logprobs[: len(reply.ids)])


def test_a_draft_that_would_end_the_reply_is_refused() -> None:
    draft = Draft(tuple(IDS), tuple(-0.1 for _ in IDS))

    with pytest.raises(ValueError, match="a draft of 6 tokens"):
        draft.pin(VOCABULARY.reply(max_tokens=3), 1)


@given(st.lists(st.sampled_from((1, 2, 3, TAG_ID)), max_size=5))
def test_what_may_come_after_tokens_ahead_is_what_may_come_once_they_are_said(ahead: list[int]) -> None:
    headers = HeaderTrie.of([(1, 2, TAG_ID), (1, 3, 3, TAG_ID)])
    asked, told = VOCABULARY.reply(header=headers), VOCABULARY.reply(header=headers)

    for token in ahead:
        told.accept(token, -0.1)

    assert asked.allowed(ahead) == told.allowed()
    assert asked.allowed() == (1,)
