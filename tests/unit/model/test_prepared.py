"""The known tokens of an open sequence, in any stretch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr_service.decoding.reply import FinishReason
from asr_service.languages import Language
from asr_service.model.features import Window
from asr_service.model.prepared import LiveSequence, PreparedSpeech
from asr_service.model.prompt import Prompt

AUDIO, WINDOW_TOKENS, HIDDEN = 99, 5, 3


@dataclass
class Written:
    """A reply that is there already."""

    ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    text: str = ""
    language: Language | None = None
    mean_logprob: float | None = None

    def accept(self, token: int, logprob: float) -> FinishReason | None:
        raise NotImplementedError

    def allowed(self, ahead: Sequence[int] = ()) -> tuple[int, ...] | None:
        return None

    def text_of(self, n_tokens: int) -> str:
        raise NotImplementedError


def sequence(n_audio: int, *, encoded: bool = True) -> LiveSequence:
    """3 tokens, the audio, 2 tokens, and 4 of a reply."""
    n_windows = -(-n_audio // WINDOW_TOKENS)
    windows = tuple(Window(torch.zeros(1, 1), fills_chunk=True) for _ in range(n_windows))
    prepared = PreparedSpeech(windows, n_audio, Prompt((1, 2, 3), (4, 5)), Written([6, 7, 8, 9]), 10, 0.0)
    live = LiveSequence(prepared, WINDOW_TOKENS, AUDIO)
    if encoded:
        for index, part in enumerate(embeddings(n_audio).split(WINDOW_TOKENS)):
            live.keep(index, part)
    return live


def embeddings(n_audio: int) -> torch.Tensor:
    return torch.arange(1.0, n_audio * HIDDEN + 1).view(n_audio, HIDDEN)


@settings(deadline=None)
@given(n_audio=st.integers(1, 17), start=st.integers(0, 25), count=st.integers(1, 26))
def test_any_stretch_is_part_of_the_whole(n_audio: int, start: int, count: int) -> None:
    whole = [1, 2, 3, *[AUDIO] * n_audio, 4, 5, 6, 7, 8, 9]
    stretch = whole[start : start + count]
    if not stretch:
        return
    live, rows = sequence(n_audio), torch.zeros(len(stretch), HIDDEN)

    live.fill_audio(rows, start)

    assert live.ids(start, len(stretch)) == stretch
    filled = torch.zeros(len(whole), HIDDEN)
    filled[3 : 3 + n_audio] = embeddings(n_audio)
    assert torch.equal(rows, filled[start : start + len(stretch)])


def test_only_a_stretch_that_needs_a_window_asks_for_it() -> None:
    live = sequence(7, encoded=False)

    live.fill_audio(torch.zeros(3, HIDDEN), 0)
    live.fill_audio(torch.zeros(3, HIDDEN), 10)
    with pytest.raises(ValueError, match="window 1 is fed before it is encoded"):
        live.fill_audio(torch.zeros(1, HIDDEN), 9)


def test_what_is_kept_does_not_hold_the_batch_that_it_came_in() -> None:
    live, batch = sequence(2, encoded=False), torch.zeros(4, 5, HIDDEN)

    live.keep(0, batch[1, :2])

    kept = live._encoded[0]
    assert kept is not None
    assert kept.untyped_storage().nbytes() == 2 * HIDDEN * 4
