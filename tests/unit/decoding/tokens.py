"""A vocabulary of byte strings, as byte-level tokenizers have, made for one test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from asr_service.decoding.transcript import TokenReply

TAG_ID = 9_998
STOP_ID = 9_999


class Vocabulary:
    """Token n is the n-th piece. `n_decoded` counts the tokens that were decoded, however often."""

    def __init__(self, pieces: Iterable[bytes], *, shows_tag: bool = True) -> None:
        self.pieces = list(pieces)
        self._tag = b"<asr_text>" if shows_tag else b""
        self.n_decoded = 0

    @classmethod
    def of_words(cls, text: str) -> tuple[Vocabulary, list[int]]:
        """A token for each different word with its space, and the ids of the text."""
        words = [f" {word}".encode() for word in text.split()]
        pieces = list(dict.fromkeys(words))
        return cls(pieces), [pieces.index(word) for word in words]

    def decode(self, ids: Sequence[int]) -> str:
        self.n_decoded += len(ids)
        return b"".join(self._tag if i == TAG_ID else self.pieces[i] for i in ids).decode("utf-8", "replace")

    def reply(self, *, max_tokens: int = 10_000, duration_s: float = 1000.0, **options: object) -> TokenReply:
        fixed: dict[str, object] = {"stop_ids": {STOP_ID}, "text_tag_id": TAG_ID}
        return TokenReply(self.decode, max_tokens=max_tokens, duration_s=duration_s, **(fixed | options))  # type: ignore[arg-type]
