"""What characters are: how wide, of which direction, and whether words stand apart next to them."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_SPACES = re.compile(r"\s+")
_KEPT_SPACES = "\u00a0\u2007\u202f"  # they forbid a break
_UNSPACED = ("CJK", "HIRAGANA", "KATAKANA", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH", "THAI", "LAO", "KHMER", "MYANMAR")
_FIRST_UNSPACED = "\u0e00"  # Thai; most text is below it and needs no look at its names
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")
_HAN = re.compile("[\u4e00-\u9fff]")


def clean(text: str) -> str:
    """One line: no control characters, single spaces, none at the ends."""
    return _SPACES.sub(_one_space, "".join(map(_printable, text))).strip()


def _one_space(spaces: re.Match[str]) -> str:
    return spaces[0] if spaces[0] in _KEPT_SPACES else " "


@lru_cache(maxsize=4096)
def _printable(character: str) -> str:
    match unicodedata.category(character):
        case "Cc":
            return " "
        case "Cs":
            return "\ufffd"  # half a character: nothing can write it
        case _:
            return character


def columns(text: str) -> int:
    """How wide a text is: East Asian wide characters take two, combining and format characters none."""
    return sum(map(_width, text))


@lru_cache(maxsize=4096)
def _width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


@lru_cache(maxsize=4096)
def is_unspaced(character: str) -> bool:
    """Whether words next to this character are written without a space. Hangul is spaced."""
    return character >= _FIRST_UNSPACED and unicodedata.name(character, "").startswith(_UNSPACED)


def needs_space(left: str, right: str) -> bool:
    """Between two words, by the characters that meet."""
    return not (is_unspaced(left[-1]) or is_unspaced(right[0]))


@lru_cache(maxsize=4096)
def is_letter(character: str) -> bool:
    """Whether it is said: letters, marks, digits and symbols, not punctuation."""
    return unicodedata.category(character)[0] in "LMNS"


def has_kana(text: str) -> bool:
    return _KANA.search(text) is not None


def has_han(text: str) -> bool:
    return _HAN.search(text) is not None


def is_right_to_left(text: str) -> bool:
    """Whether most of its letters run from right to left."""
    directions = [unicodedata.bidirectional(character) for character in text]
    n_rtl = sum(direction in ("R", "AL") for direction in directions)
    return n_rtl > directions.count("L")
