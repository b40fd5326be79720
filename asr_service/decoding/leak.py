"""Suspects that a transcript is the context come back: a prompt's list of names, written where nobody spoke it.

The law:
* Words count, without case and punctuation; in scripts without spaces each character does.
* A run of words that stands in the context just so is copied, if it has 3 words, or 4 characters of a script without spaces,
  or is the whole context.
* 80 % of the words copied: the transcript is a suspect. Nothing more: people do say what they have announced. Only a second
  transcript, made without the context, can tell: if it sounds alike, the words were there.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

from asr_service.decoding.joining import is_unspaced

_RUN_WEIGHT = 12
_WORD_WEIGHT = 4  # so 3 make a run
_CHARACTER_WEIGHT = 3  # so 4 do
_SUSPICIOUS_SHARE = 0.8
_ALIKE = 0.6  # names are spelled by ear where no context tells how


def looks_leaked(text: str, context: str) -> bool:
    """Whether nearly all of the transcript stands in the context, in the same order."""
    said, told = _words(text), _words(context)
    if not said or not told:
        return False
    runs = set(_runs(told)) or {tuple(told)}
    copied: set[int] = set()
    lengths = {len(run) for run in runs}
    for length in lengths:
        for start in range(len(said) - length + 1):
            if tuple(said[start : start + length]) in runs:
                copied.update(range(start, start + length))
    return len(copied) >= _SUSPICIOUS_SHARE * len(said)


def sounds_alike(first: str, second: str) -> bool:
    """Whether two transcripts may be of the same sound, spelling aside."""
    matcher = SequenceMatcher(None, "".join(_words(first)), "".join(_words(second)), autojunk=False)
    return matcher.ratio() >= _ALIKE


def _runs(words: Sequence[str]) -> Iterator[tuple[str, ...]]:
    """For each word the shortest run from there that is long enough to count."""
    weights = [_CHARACTER_WEIGHT if is_unspaced(word[0]) else _WORD_WEIGHT for word in words]
    for start in range(len(words)):
        weight, end = 0, start
        while weight < _RUN_WEIGHT and end < len(words):
            weight += weights[end]
            end += 1
        if weight >= _RUN_WEIGHT:
            yield tuple(words[start:end])


def _words(text: str) -> list[str]:
    """Without case and punctuation; characters of a script without spaces singly."""
    words: list[str] = []
    is_open = False  # the last word may go on
    for character in unicodedata.normalize("NFKC", text).casefold():
        if unicodedata.category(character)[0] not in "LNM":
            is_open = False
        elif is_unspaced(character):
            words.append(character)
            is_open = False
        elif is_open:
            words[-1] += character
        else:
            words.append(character)
            is_open = True
    return words
