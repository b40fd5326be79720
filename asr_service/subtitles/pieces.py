"""Where a text may be cut, and how well: Unicode's sentence and line breaking, as ICU does it (UAX 14, UAX 29).

A piece is what is never cut, but for words that are wider than a line. Words of scripts with spaces are one piece, hyphens and
all, so that as many words come out as went in; Chinese and Thai pieces are words, Japanese ones phrases.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, pairwise

from icu4py.breakers import CharacterBreaker, LineBreaker, SentenceBreaker, WordBreaker

from asr_service.subtitles.function_words import BACKWARD, FORWARD, OPENING
from asr_service.subtitles.script import columns, has_han, has_kana, is_letter, is_unspaced

_TERMINALS = frozenset(".!?…。！？｡؟۔।॥։።")
_CLAUSE_ENDS = frozenset(",;:—–、，；：､،؛)]}»”」』】）》")
_CLOSERS = "\"'”’»)]}」』】）》"
_WORDS = re.compile(r"\S+\s*")
_DICTIONARY = ("zh", "yue")  # line breaking allows a cut inside a word; the dictionary knows the words


class Break(IntEnum):
    """What ends with a piece."""

    SENTENCE = 0
    CLAUSE = 1
    PHRASE = 2  # what follows probably opens a clause
    WORD = 3
    BOUND = 4  # a word that leans on its neighbour
    INSIDE = 5  # part of a word that is wider than a line


@dataclass(frozen=True, slots=True)
class Piece:
    """`at`: where in the text it begins. `has_space`: a space stands before it."""

    text: str
    at: int
    has_space: bool
    after: Break


def pieces_of(text: str, language: str, max_columns: int) -> list[Piece]:
    """A clean text, cut wherever it may be. No piece is wider than max_columns, and together they are the text."""
    if not text:
        return []
    language = _written_in(text, language)
    sentence_ends = set(accumulate(map(len, SentenceBreaker(text, _locale(language, "ss-standard")))))
    raw = _raw_pieces(text, language, max_columns)
    pieces: list[Piece] = []
    for (at, piece, is_part), (end, following, _) in pairwise([*raw, (len(text), "", False)]):
        after = Break.INSIDE if is_part else _quality(piece, following.strip(), language, end in sentence_ends)
        bare = piece.strip()
        at += len(piece) - len(piece.lstrip())
        if bare:
            pieces.append(Piece(bare, at, at > 0 and text[at - 1].isspace(), after))
    return pieces


def _raw_pieces(text: str, language: str, max_columns: int) -> Iterator[tuple[int, str, bool]]:
    """Place, text with the space after it, and whether its word goes on in the next."""
    at = 0
    for token in _tokens(text, language):
        end = at + len(token)
        if columns(token.strip()) <= max_columns:
            yield at, token, False
            at = end
            continue
        for part in _parts(token, language, max_columns):
            at += len(part)
            is_end = part[-1].isspace() or at == end
            yield at - len(part), part, not is_end


def _parts(token: str, language: str, max_columns: int) -> Iterator[str]:
    """A token that is wider than a line: at spaces that should not break; if need be at hyphens and the like; then anywhere."""
    for word in _WORDS.findall(token):
        if columns(word.strip()) <= max_columns:
            yield word
            continue
        for piece in LineBreaker(word, _locale(language)):
            yield from _broken(piece, max_columns)


def _tokens(text: str, language: str) -> Iterator[str]:
    """ICU's pieces, those of one word together."""
    word_ends = set(accumulate(map(len, WordBreaker(text, language)))) if language in _DICTIONARY else None
    token, at = "", 0
    for piece in LineBreaker(text, _locale(language, "lb-strict", "lw-phrase")):
        if token and _is_within_word(token[-1], piece[0], word_ends is None or at in word_ends):
            token += piece
        else:
            if token:
                yield token
            token = piece
        at += len(piece)
    if token:
        yield token


def _is_within_word(left: str, right: str, is_word_end: bool) -> bool:
    if left == " ":
        return False
    return not (is_word_end and (is_unspaced(left) or is_unspaced(right)))


def _broken(piece: str, max_columns: int) -> Iterator[str]:
    """A piece that is too wide, between user-perceived characters."""
    if columns(piece.strip()) <= max_columns:
        yield piece
        return
    part = ""
    for character in CharacterBreaker(piece, ""):
        for unit in [character] if columns(character) <= max_columns else character:
            if part and columns((part + unit).strip()) > max_columns:
                yield part
                part = ""
            part += unit
    yield part


def _quality(piece: str, following: str, language: str, ends_sentence: bool) -> Break:
    has_space, piece = piece.endswith(" "), piece.strip()
    bare = piece.rstrip(_CLOSERS) or piece
    if ends_sentence and bare[-1:] in _TERMINALS:
        return Break.SENTENCE
    if piece[-1] in _CLAUSE_ENDS or bare[-1:] in _CLAUSE_ENDS:
        return Break.CLAUSE
    if has_space and is_unspaced(piece[-1]) and following and is_unspaced(following[0]):
        return Break.CLAUSE  # Thai parts clauses and sentences by spaces, and Chinese and Japanese need a reason for one
    if _bare(piece) in FORWARD.get(language, ()) and is_letter(piece[-1]):
        return Break.BOUND
    if _bare(following) in BACKWARD.get(language, ()):
        return Break.BOUND
    return Break.PHRASE if _bare(following) in OPENING.get(language, ()) else Break.WORD


def _bare(word: str) -> str:
    return "".join(filter(is_letter, word)).casefold()


def _written_in(text: str, language: str) -> str:
    """What the characters say, where the language is not known or cannot be."""
    if has_kana(text):
        return "ja"
    return language or ("zh" if has_han(text) else "")


def _locale(language: str, *extensions: str) -> str:
    return "-u-".join(filter(None, [language or "und", "-".join(extensions)]))
