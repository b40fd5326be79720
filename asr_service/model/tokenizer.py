"""Text to token ids and back, by a checkpoint's own tokenizer files.

The law:
* `encode` takes text as text. The byte-pair model is built without the added tokens, so that no input, whatever it spells, can
  become <|im_end|>, <asr_text> or any other of them: the model does not know their ids. Who wants one asks for it by name.
* `decode` leaves special tokens out and keeps the other added ones, as the reference package does. Bytes that are no character
  become U+FFFD. Tokens that end at the end of a character decode to the same text whatever follows.
* The checkpoint's own splitting rule is used. Some releases of transformers put another one in its place when they load a large
  vocabulary from a folder (meant for Mistral's tokenizers); what the model was trained with is what counts here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Pipeline
from tokenizers.models import BPE

from asr_service.engine.protocol import EngineFailed
from asr_service.model.added_tokens import AddedToken, added_tokens
from asr_service.model.json_file import JsonObject

# How Qwen's tokenizers cut text into words before byte pairs are merged; for checkpoints that bring vocabulary and merges only.
_SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_MODEL_OPTIONS = (
    "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback", "ignore_merges",
)  # fmt: skip


class Tokenizer:
    """May be used from any thread."""

    def __init__(self, pipeline: Pipeline, added: Sequence[AddedToken], where: Path) -> None:
        self._pipeline = pipeline
        self._where = where
        self._added = {token.content: token.id for token in added}
        self._special_ids = frozenset(token.id for token in added if token.is_special)
        self._bytes = {token.id: token.content.encode() for token in added}
        """What each token stands for; the rest is added as it is asked for."""
        self._byte_of = {letter: byte for byte, letter in enumerate(byte_letters())}

    @classmethod
    def open(cls, folder: Path) -> Tokenizer:
        """From tokenizer.json, or vocab.json and merges.txt. Raises EngineFailed when they are not there or not as expected."""
        added = added_tokens(folder)
        description = _read_description(folder)
        try:
            pipeline = _build(description, frozenset(token.id for token in added))
        except Exception as error:  # the library raises nothing more precise
            raise EngineFailed(f"{folder}: the tokenizer cannot be built: {error}") from None
        return cls(pipeline, added, folder)

    def encode(self, text: str) -> list[int]:
        """Never contains an added token's id, whatever the text spells."""
        ids: list[int] = self._pipeline.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int], *, skip_special: bool = True) -> str:
        """Ids that the vocabulary does not have are left out."""
        skipped = self._special_ids if skip_special else frozenset()
        return b"".join(self._bytes_of(token) for token in ids if token not in skipped).decode("utf-8", "replace")

    def special(self, name: str) -> int:
        """The id of an added token. Raises EngineFailed when the checkpoint has none of this name."""
        token = self.find(name)
        if token is None:
            raise EngineFailed(f"{self._where}: the tokenizer has no token {name}")
        return token

    def find(self, name: str) -> int | None:
        """The id of an added token, None when there is none of this name."""
        return self._added.get(name)

    @property
    def special_ids(self) -> frozenset[int]:
        return self._special_ids

    @property
    def added_ids(self) -> frozenset[int]:
        """Special tokens and the other added ones, which are text to a decoder but never come from `encode`."""
        return frozenset(self._added.values())

    def _bytes_of(self, token: int) -> bytes:
        known = self._bytes.get(token)
        if known is None:
            text: str | None = self._pipeline.id_to_token(token)
            known = self._bytes[token] = b"" if text is None else self._spelled(text)
        return known

    def _spelled(self, text: str) -> bytes:
        """The bytes that a byte-level token writes as letters."""
        try:
            return bytes([self._byte_of[letter] for letter in text])
        except KeyError:  # not written in byte letters
            return text.encode()


def byte_letters() -> tuple[str, ...]:
    """The printable letter that stands for each byte in a byte-level vocabulary, by byte."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))


def _read_description(folder: Path) -> dict[str, Any]:
    """As tokenizer.json has it, without added tokens, padding and truncation."""
    if (folder / "tokenizer.json").is_file():
        file = JsonObject.read(folder / "tokenizer.json")
        file.must_be("model.type", file.section("model").text("type", default="BPE"), "BPE")
        return {**file.values, "added_tokens": [], "padding": None, "truncation": None}
    vocabulary = JsonObject.read(folder / "vocab.json")
    return {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": _SPLIT}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
            ],
        },
        "post_processor": None,
        "decoder": None,
        "model": {"type": "BPE", "vocab": dict(vocabulary.values), "merges": list(_read_merges(folder / "merges.txt"))},
    }


def _read_merges(path: Path) -> Iterator[list[str]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise EngineFailed(f"{path}: no such file; expected it beside vocab.json") from None
    except (OSError, ValueError) as error:
        raise EngineFailed(f"{path}: cannot be read: {error}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (number == 1 and line.startswith("#version:")):
            continue
        pair = line.split()
        if len(pair) != 2:
            raise EngineFailed(f"{path}: line {number} is {line[:80]!r}; expected two tokens to merge")
        yield pair


def _build(description: Mapping[str, Any], without: frozenset[int]) -> Pipeline:
    """The pipeline, without these ids, where the byte-pair model's own vocabulary has added tokens too."""
    model = description["model"]
    vocabulary: dict[str, int] = model["vocab"]
    merges = [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]
    if known := {text for text, token in vocabulary.items() if token in without}:
        vocabulary = {text: token for text, token in vocabulary.items() if text not in known}
        merges = [pair for pair in merges if known.isdisjoint((*pair, "".join(pair)))]
    # Through JSON goes only what is small; the library takes the rest as it is.
    pipeline = Pipeline.from_str(json.dumps({**description, "model": {"type": "BPE", "vocab": {}, "merges": []}}))
    pipeline.model = BPE(vocabulary, merges, **{name: model[name] for name in _MODEL_OPTIONS if model.get(name) is not None})
    return pipeline
