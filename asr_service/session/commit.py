"""Which part of a text that is still being recognised may be shown as settled.

The text of each round is compared with the one before, unit by unit: words, and single characters in scripts without spaces.
A unit that stands where it stood is older by one round; the first one that differs, and all behind it, are new.

* stable: in two rounds running.
* committed: stable, unchanged while 1.25 s of audio came, and everything before it is committed. (Of the policies that were
  compared, unchanged time has the smallest delay for its rate of contradictions. With 64 sessions at once, 1.5 s put the median
  delay behind the end of a word above 1.5 s, and 1.25 s below, without a contradiction in either; see bench/streaming.py.)

`committed` only grows. When a later round contradicts it, it stays as it is and the tail goes on behind as many units; the
final says that it was revised.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from asr_service.request import SAMPLE_RATE

COMMIT_AFTER_SAMPLES = 5 * SAMPLE_RATE // 4
_STABLE_ROUNDS = 2

_WORD = re.compile(r"\s*\S+")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fff\u3001-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff00-\uffef\U00020000-\U0003ffff]"
)


@dataclass(frozen=True, slots=True)
class Draft:
    """What to show of a text: committed + tail. `delta` is new in committed; of the tail, `stable_chars` are stable."""

    delta: str
    committed: str
    tail: str
    stable_chars: int


@dataclass(frozen=True, slots=True)
class _Unit:
    text: str
    since: int  # sample up to which audio had come when it first stood here
    rounds: int = 1

    @property
    def is_stable(self) -> bool:
        return self.rounds >= _STABLE_ROUNDS


class Commitment:
    """The text of one utterance, round by round."""

    def __init__(self) -> None:
        self._units: list[_Unit] = []  # of the last round
        self._n_committed = 0  # units
        self.committed = ""

    def update(self, text: str, at: int) -> Draft:
        """The text of a round that had the audio up to sample `at`."""
        self._units = self._aged(split_units(text), at)
        grown = self._n_committed
        while grown < len(self._units) and self._may_commit(self._units[grown], at):
            grown += 1
        delta = "".join(unit.text for unit in self._units[self._n_committed : grown])
        self.committed += delta
        self._n_committed = grown
        tail = self._units[grown:]
        return Draft(delta, self.committed, "".join(unit.text for unit in tail), _stable_chars(tail))

    def _aged(self, texts: list[str], at: int) -> list[_Unit]:
        units: list[_Unit] = []
        agrees = True
        for index, text in enumerate(texts):
            before = self._units[index] if agrees and index < len(self._units) else None
            agrees = before is not None and before.text == text
            if before is not None and agrees:
                units.append(_Unit(text, before.since, before.rounds + 1))
            else:
                units.append(_Unit(text, at))
        return units

    @staticmethod
    def _may_commit(unit: _Unit, at: int) -> bool:
        return unit.is_stable and at - unit.since >= COMMIT_AFTER_SAMPLES


def split_units(text: str) -> list[str]:
    """Words with the space before them; in scripts without spaces, characters with what combines with them."""
    units: list[str] = []
    for word in _WORD.findall(text):
        if _UNSPACED.search(word) is None:
            units.append(word)
        else:
            units += _split_unspaced(word)
    return units


def _split_unspaced(word: str) -> list[str]:
    units: list[str] = []
    for char in word:
        joins = unicodedata.combining(char) != 0 or unicodedata.category(char) in ("Mn", "Mc", "Me")
        is_new = not units or (not joins and (_UNSPACED.match(char) or _UNSPACED.match(units[-1].lstrip()[:1] or "x")))
        if is_new and not (units and units[-1].isspace()):
            units.append(char)
        else:
            units[-1] += char
    return units


def _stable_chars(tail: list[_Unit]) -> int:
    n_chars = 0
    for unit in tail:
        if not unit.is_stable:
            break
        n_chars += len(unit.text)
    return n_chars
