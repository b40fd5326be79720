"""A reply made of tokens.

The law:
* A stop token ends it and is not part of it; so does the token that fills the budget; so does a runaway loop.
* Text is decoded a few tokens at a time. What was decoded up to the end of a character is settled and never looked at again.
* The raw text carries the tag whether or not the tokenizer shows it; `header` takes it apart.
* With a forced language the header stands in the prompt, so everything is text.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from asr_service.decoding.header import TAG, HeaderTrie, HeaderWalk, Parsed, parse_reply
from asr_service.decoding.repetition import LoopDetector, honest_tokens
from asr_service.decoding.reply import FinishReason
from asr_service.languages import Language

Decode = Callable[[Sequence[int]], str]
"""Token ids to text, U+FFFD for bytes that are no character. Tokens that end at the end of a character decode to the same text
whatever follows."""

_BROKEN = "\ufffd"
_WINDOW = 16  # tokens; with more than this undecided, the bytes are broken for good
_KEPT = 4  # tokens at the end that may belong to a character of up to 4 bytes


class _RawText:
    """Everything that tokens say, decoded bit by bit."""

    def __init__(self, decode: Decode, tag_id: int | None) -> None:
        self._decode = decode
        self._tag_id = tag_id
        self._settled = ""
        self._window: list[int] = []

    def push(self, token: int) -> None:
        if token == self._tag_id:
            self._settled += self._decode(self._window) + TAG
            self._window.clear()
        else:
            self._window.append(token)

    def read(self) -> str:
        """Without the bytes of a character that is not whole."""
        if not self._window:
            return self._settled
        text = self._decode(self._window)
        if not text.endswith(_BROKEN):
            self._settled += text
            self._window.clear()
            return self._settled
        if len(self._window) > _WINDOW:
            self._settle_broken(text)
        return (self._settled + self._decode(self._window)).rstrip(_BROKEN)

    def _settle_broken(self, text: str) -> None:
        """Bytes that never were text must not be decoded again and again: cuts where it makes no difference."""
        for at in range(len(self._window) - _KEPT, 0, -1):
            head = self._decode(self._window[:at])
            if head + self._decode(self._window[at:]) == text:
                self._settled += head
                del self._window[:at]
                return


class TokenReply:
    """The Reply of one request. `decode` need not show the tag.

    `text_tag_id`: the token of `<asr_text>`, None where the vocabulary has none. `forced`: the language that the prompt names.
    `header`: the headers that may come, None for any. `max_tokens`: the budget. `duration_s`: length of the audio.
    """

    def __init__(
        self,
        decode: Decode,
        *,
        stop_ids: Collection[int],
        text_tag_id: int | None,
        max_tokens: int,
        duration_s: float,
        forced: Language | None = None,
        header: HeaderTrie | None = None,
    ) -> None:
        self._decode = decode
        self._stop_ids = frozenset(stop_ids)
        self._tag_id = text_tag_id
        self._max_tokens = max_tokens
        self._honest_tokens = honest_tokens(duration_s)
        self._forced = forced
        self._walk: HeaderWalk | None = header.walk() if header is not None and forced is None else None
        self._ids: list[int] = []
        self._all_logprobs: list[float] = []  # of the ids
        self._raw = _RawText(decode, text_tag_id)
        self._loops = LoopDetector()
        self._has_tag = forced is not None
        self._logprobs = (0.0, 0)  # sum and count over the text tokens
        self._finish: FinishReason | None = None
        self._parsed: Parsed | None = None  # of the tokens so far, once somebody asked

    @property
    def max_tokens(self) -> int:
        return self._max_tokens

    @property
    def ids(self) -> list[int]:
        return self._ids

    @property
    def logprobs(self) -> Sequence[float]:
        return self._all_logprobs

    @property
    def text(self) -> str:
        return self._parse().text

    @property
    def language(self) -> Language | None:
        return self._forced or self._parse().language

    @property
    def mean_logprob(self) -> float | None:
        """Of the tokens behind the tag, or of all where there is no tag. The stop token does not count."""
        total, n_tokens = self._logprobs
        return total / n_tokens if n_tokens else None

    def accept(self, token: int, logprob: float) -> FinishReason | None:
        """See Reply. Raises ValueError when it is over already."""
        if self._finish is not None:
            raise ValueError(f"token {token} came after the end ({self._finish.value})")
        self._parsed = None
        if token in self._stop_ids:
            self._finish = FinishReason.STOP
            return self._finish
        self._ids.append(token)
        self._all_logprobs.append(logprob)
        self._raw.push(token)
        self._loops.push(token)
        self._count(token, logprob)
        if self._walk is not None:
            self._walk.accept(token)
        if len(self._ids) > self._honest_tokens and self._loops.loop is not None:
            self._finish = FinishReason.REPETITION
        elif len(self._ids) >= self._max_tokens:
            self._finish = FinishReason.LENGTH
        return self._finish

    def allowed(self, ahead: Sequence[int] = ()) -> tuple[int, ...] | None:
        if self._walk is None:
            return None
        return self._walk.after(ahead).allowed() if ahead else self._walk.allowed()

    def text_of(self, n_tokens: int) -> str:
        raw = _RawText(self._decode, self._tag_id)
        for token in self._ids[:n_tokens]:
            raw.push(token)
        return self._take_apart(raw.read()).text

    def _count(self, token: int, logprob: float) -> None:
        if token == self._tag_id and not self._has_tag:
            self._has_tag = True
            self._logprobs = (0.0, 0)
            return
        total, n_tokens = self._logprobs
        self._logprobs = (total + logprob, n_tokens + 1)

    def _parse(self) -> Parsed:
        if self._parsed is None:
            self._parsed = self._take_apart(self._raw.read())
        return self._parsed

    def _take_apart(self, raw: str) -> Parsed:
        if self._forced is not None:
            return Parsed(self._forced, raw.strip())
        return parse_reply(raw, is_whole=self._finish is FinishReason.STOP)
