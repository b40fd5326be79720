"""A text as the units that a forced aligner gives times to, and the words that a reader sees.

The aligner was trained on units without punctuation: words between spaces, single Han characters, and what a tokeniser makes of
Japanese and Korean. Each unit remembers where it stands in the text, so that the words get their punctuation back:

    text     “Hello,   world — 你好!”
    units     Hello    world   你 好
    words    “Hello,   world — 你 好!”

All words together are the text but for the spaces between them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from asr_service.languages import Language

Tokenise = Callable[[str], Sequence[str]]
"""Cuts a text without spaces between words into words, in their order."""

_HAN = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF),
    (0xF900, 0xFAFF),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Unit:
    """`text`: as the aligner reads it; text[start:end] of the source spells it, with what stands between its letters.
    `word`: as the reader sees it, with the punctuation around it; it stands at `word_start`."""

    text: str
    start: int
    end: int
    word: str
    word_start: int

    @property
    def word_end(self) -> int:
        return self.word_start + len(self.word)


def cut_units(text: str, tokenise: Tokenise | None = None) -> tuple[Unit, ...]:
    """The units of a text in their order. `tokenise` is for languages that are neither spaced nor written in Han characters;
    see `needs_tokeniser`."""
    spans = _spaced(text) if tokenise is None else _tokenised(text, tokenise(text))
    return tuple(_with_words(text, list(spans)))


def needs_tokeniser(language: Language) -> bool:
    """Whether spaces and Han characters are not enough to cut this language as the aligner was trained."""
    return language.code in ("ja", "ko")


def is_letter(char: str) -> bool:
    """Whether the aligner reads it: letters, digits and the apostrophe."""
    return char == "'" or unicodedata.category(char)[0] in "LN"


def is_han(char: str) -> bool:
    code = ord(char)
    return any(first <= code <= last for first, last in _HAN)


_Span = tuple[str, int, int]


def _spaced(text: str) -> Iterator[_Span]:
    """Words between spaces, without punctuation; Han characters each alone."""
    for begin, end in _between_spaces(text):
        kept = [at for at in range(begin, end) if is_letter(text[at])]
        run: list[int] = []
        for at in kept:
            if not is_han(text[at]):
                run.append(at)
                continue
            if run:
                yield _span(text, run)
            run = []
            yield text[at], at, at + 1
        if run:
            yield _span(text, run)


def _between_spaces(text: str) -> Iterator[tuple[int, int]]:
    """As `str.split` cuts."""
    begin = None
    for at, char in enumerate(text):
        if char.isspace():
            if begin is not None:
                yield begin, at
            begin = None
        elif begin is None:
            begin = at
    if begin is not None:
        yield begin, len(text)


def _span(text: str, places: Sequence[int]) -> _Span:
    return "".join(text[at] for at in places), places[0], places[-1] + 1


def _tokenised(text: str, tokens: Sequence[str]) -> Iterator[_Span]:
    """Tokens without punctuation, found again in the text. A tokeniser may write a character differently (full width, case), so
    those that are not where they should be take as many letters as they have."""
    letters = [at for at, char in enumerate(text) if is_letter(char)]
    n_used = 0
    for token in tokens:
        cleaned = "".join(char for char in token if is_letter(char))
        if not cleaned or n_used == len(letters):
            continue
        found = text.find(token, letters[n_used])
        first = next((n for n in range(n_used, len(letters)) if letters[n] >= found), n_used) if found >= 0 else n_used
        if first - n_used > len(cleaned):  # the same word further on is another one
            first = n_used
        places = letters[first : first + len(cleaned)]
        n_used = first + len(places)
        if places:
            yield cleaned, places[0], places[-1] + 1


def _with_words(text: str, spans: Sequence[_Span]) -> Iterator[Unit]:
    """Each unit's word goes to where the next one's begins. What stands right before a word behind a space, or opens a bracket,
    belongs to the word behind it, all else to the word before it."""
    begin = 0
    for number, (unit, start, end) in enumerate(spans):
        next_start = spans[number + 1][1] if number + 1 < len(spans) else len(text)
        word_end = _divide(text, end, next_start) if number + 1 < len(spans) else next_start
        word = text[begin:word_end].lstrip()
        yield Unit(unit, start, end, word.rstrip(), word_end - len(word))
        begin = word_end


def _divide(text: str, end: int, next_start: int) -> int:
    """Where between two units the second one's word begins."""
    between = text[end:next_start]
    if (spaces := [n for n, char in enumerate(between) if char.isspace()]) and spaces[-1] + 1 < len(between):
        return end + spaces[-1] + 1
    opening = len(between)
    while opening and _opens(between[opening - 1]):
        opening -= 1
    return end + opening


def _opens(char: str) -> bool:
    return unicodedata.category(char) in ("Ps", "Pi", "Sc") or char in "¿¡"
