"""Groups words into cues: what is on the screen together.

The law:
* a cue has at most two lines of at most 42 columns (a wide East Asian character takes two); only a single word that is wider
  than a line may exceed that;
* a pause of more than 0.5 s ends a cue, and so does the end of a segment;
* a cue of words lasts at most 7 s;
* cues are in order, never overlap, and end after they start;
* a segment without word times is one cue, however long: its words' places are not guessed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

MAX_LINE_COLUMNS = 42
MAX_LINES = 2
MAX_PAUSE_MS = 500
MAX_CUE_MS = 7000


@dataclass(frozen=True, slots=True)
class SubtitleWord:
    """A word as written, with its place in the audio."""

    text: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class SubtitleSegment:
    """A stretch of speech: its text, its place, and its words where their times are known."""

    text: str
    start_ms: int
    end_ms: int
    words: tuple[SubtitleWord, ...] = ()


@dataclass(frozen=True, slots=True)
class Cue:
    """Lines shown from start_ms to end_ms."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A word as it is set: its text, and whether a space belongs before it."""

    text: str
    has_space: bool
    start_ms: int
    end_ms: int


def make_cues(segments: Iterable[SubtitleSegment]) -> list[Cue]:
    """The cues of a recording. Segments and words are expected in order of time; where they overlap, the later one waits."""
    cues: list[Cue] = []
    free_ms = 0  # where the previous cue ended
    for segment in segments:
        for cue in _segment_cues(segment):
            start_ms = max(cue.start_ms, free_ms)
            end_ms = max(cue.end_ms, start_ms + 1)
            if segment.words:
                end_ms = min(end_ms, start_ms + MAX_CUE_MS)
            cues.append(Cue(start_ms, end_ms, cue.lines))
            free_ms = end_ms
    return cues


def _segment_cues(segment: SubtitleSegment) -> Iterator[Cue]:
    pieces = _pieces(segment)
    if not pieces:
        words = _clean(segment.text).split()
        if words:
            whole = [_Piece(word, True, segment.start_ms, segment.end_ms) for word in words]
            yield Cue(segment.start_ms, segment.end_ms, tuple(_wrap(whole)))
        return
    held: list[_Piece] = []
    for piece in pieces:
        if held and not _belongs(held, piece):
            yield _cue(held)
            held = []
        held.append(piece)
    yield _cue(held)


def _belongs(held: Sequence[_Piece], piece: _Piece) -> bool:
    return (
        piece.start_ms - held[-1].end_ms <= MAX_PAUSE_MS
        and piece.end_ms - held[0].start_ms <= MAX_CUE_MS
        and len(_wrap([*held, piece])) <= MAX_LINES
    )


def _cue(pieces: Sequence[_Piece]) -> Cue:
    return Cue(pieces[0].start_ms, pieces[-1].end_ms, tuple(_balance(pieces)))


def _balance(pieces: Sequence[_Piece]) -> list[str]:
    """One line where it fits, else the two most even ones."""
    lines = _wrap(pieces)
    if len(lines) != MAX_LINES:
        return lines
    splits = [(_line(pieces[:k]), _line(pieces[k:])) for k in range(1, len(pieces))]
    fitting = [split for split in splits if max(map(_columns, split)) <= MAX_LINE_COLUMNS]
    if not fitting:
        return lines
    most_even = min(fitting, key=lambda split: abs(_columns(split[0]) - _columns(split[1])))
    return list(most_even)


def _wrap(pieces: Sequence[_Piece]) -> list[str]:
    """Lines filled from the left."""
    lines: list[str] = []
    width = 0
    for piece in pieces:
        separator = " " if piece.has_space else ""
        added = len(separator) + _columns(piece.text)
        if lines and width + added <= MAX_LINE_COLUMNS:
            lines[-1] += separator + piece.text
            width += added
        else:
            lines.append(piece.text)
            width = _columns(piece.text)
    return lines


def _line(pieces: Sequence[_Piece]) -> str:
    return pieces[0].text + "".join((" " if p.has_space else "") + p.text for p in pieces[1:])


def _pieces(segment: SubtitleSegment) -> list[_Piece]:
    """The segment's words, spaced as its text spaces them; by their script where they are not found in it."""
    pieces: list[_Piece] = []
    text = _clean(segment.text)
    cursor = 0
    for word in segment.words:
        clean = _clean(word.text)
        if not clean:
            continue
        at = text.find(clean, cursor)
        if at >= 0 and not text[cursor:at].strip():
            has_space = at > cursor
            cursor = at + len(clean)
        else:
            has_space = not (pieces and _is_wide(pieces[-1].text[-1]) and _is_wide(clean[0]))
        pieces.append(_Piece(clean, has_space, word.start_ms, word.end_ms))
    return pieces


def _clean(text: str) -> str:
    """One line without control characters."""
    return " ".join("".join(c if unicodedata.category(c) != "Cc" else " " for c in text).split())


def _columns(text: str) -> int:
    return sum(2 if _is_wide(c) else 1 for c in text)


def _is_wide(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF"
