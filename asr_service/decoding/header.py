"""What the model writes before the text: `language English<asr_text>`.

raw text                                     language   text
"language German<asr_text>guten Tag"         German     "guten Tag"
"language None<asr_text>"                    None       ""         (no speech)
"language None<asr_text>hm"                  None       "hm"
"language Klingon<asr_text>nuqneH"           None       "nuqneH"   (no language that we know)
"guten Tag"                                  None       "guten Tag"
"language Ger"                               None       ""         while more may come; as text once it has stopped
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from asr_service.languages import LANGUAGES, Language

TAG = "<asr_text>"
_PREFIX = "language "
_LONGEST_HEADER = 64  # characters; what is longer without a tag is speech that happens to begin with "language"
_BY_NAME = {language.name.lower(): language for language in LANGUAGES}


@dataclass(frozen=True, slots=True)
class Parsed:
    """A raw reply, taken apart. The text has no white space around it."""

    language: Language | None
    text: str


def parse_reply(raw: str, *, is_whole: bool) -> Parsed:
    """`is_whole`: the model ended it by itself, so what looks like the beginning of a header is one no more."""
    header, tag, text = raw.partition(TAG)
    if tag:
        return Parsed(_language_in(header), text.strip())
    raw = raw.strip()
    if is_whole:
        return Parsed(None, raw)
    if _may_become_header(raw):
        return Parsed(None, "")
    return Parsed(None, _without_begun_tag(raw).strip())


def _language_in(header: str) -> Language | None:
    """The first line that begins with "language " names it, unless "language None" stands anywhere."""
    header = header.lower()
    if f"{_PREFIX}none" in header:
        return None
    for line in header.splitlines():
        if line.strip().startswith(_PREFIX):
            return _BY_NAME.get(line.strip().removeprefix(_PREFIX).strip())
    return None


def _may_become_header(raw: str) -> bool:
    begun = raw.lower()
    if len(begun) <= len(_PREFIX):
        return _PREFIX.startswith(begun)
    return begun.startswith(_PREFIX) and len(begun) <= _LONGEST_HEADER


def _without_begun_tag(raw: str) -> str:
    for n in range(len(TAG) - 1, 0, -1):
        if raw.endswith(TAG[:n]):
            return raw[:-n]
    return raw


@dataclass(slots=True)
class _Node:
    children: dict[int, _Node] = field(default_factory=dict)


class HeaderTrie:
    """The headers a reply may begin with, as token ids. A walk through it says what may come next."""

    def __init__(self, root: _Node) -> None:
        self._root = root

    @classmethod
    def of(cls, headers: Iterable[Sequence[int]]) -> HeaderTrie:
        """Each from the first token of "language ..." to the tag. None of them may begin another."""
        root = _Node()
        for header in headers:
            node = root
            for token in header:
                node = node.children.setdefault(token, _Node())
        return cls(root)

    def walk(self) -> HeaderWalk:
        return HeaderWalk(self._root)


class HeaderWalk:
    """One reply's way through the headers."""

    def __init__(self, root: _Node | None) -> None:
        self._node = root

    def accept(self, token: int) -> None:
        """A token that leads off the headers ends the walk as well."""
        if self._node is not None:
            self._node = self._node.children.get(token)

    def allowed(self) -> tuple[int, ...] | None:
        """None: the header is over."""
        if self._node is None or not self._node.children:
            return None
        return tuple(self._node.children)

    def after(self, tokens: Iterable[int]) -> HeaderWalk:
        """Another walk, which has accepted these as well."""
        walk = HeaderWalk(self._node)
        for token in tokens:
            walk.accept(token)
        return walk
