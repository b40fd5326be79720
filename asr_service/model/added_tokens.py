"""The tokens that a checkpoint has besides its byte-pair vocabulary, from whichever files it came with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr_service.engine.protocol import EngineFailed
from asr_service.model.json_file import JsonObject


@dataclass(frozen=True, slots=True)
class AddedToken:
    """`is_special`: left out of decoded text, such as <|im_end|>; <asr_text> is added but not special."""

    id: int
    content: str
    is_special: bool


def added_tokens(folder: Path) -> tuple[AddedToken, ...]:
    """By id, from the first file that lists them: tokenizer_config.json, tokenizer.json, or added_tokens.json, which only knows
    names and ids. Raises EngineFailed for a file that is not as it should be."""
    for name, read in (
        ("tokenizer_config.json", _from_config),
        ("tokenizer.json", _from_tokenizer),
        ("added_tokens.json", _from_names),
    ):
        path = folder / name
        if path.is_file() and (found := {token.id: token for token in read(JsonObject.read(path))}):
            return tuple(found[key] for key in sorted(found))
    return ()


def _from_config(file: JsonObject) -> Iterator[AddedToken]:
    section = file.section("added_tokens_decoder", default={})
    for key in section.values:
        entry = section.section(key)
        if not key.isdecimal():
            raise EngineFailed(f"{section.where}: {key!r} found, a token id expected")
        yield AddedToken(int(key), _content(entry), entry.flag("special", default=False))


def _from_tokenizer(file: JsonObject) -> Iterator[AddedToken]:
    entries: Any = file.values.get("added_tokens") or []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise EngineFailed(f"{file.where} added_tokens is not a list of objects")
    for index, values in enumerate(entries):
        entry = JsonObject(f"{file.where} added_tokens[{index}]", values)
        yield AddedToken(entry.integer("id", minimum=0), _content(entry), entry.flag("special", default=False))


def _from_names(file: JsonObject) -> Iterator[AddedToken]:
    for name in file.values:
        # Qwen's own special tokens are all written like this one; the others are markers within text.
        yield AddedToken(file.integer(name, minimum=0), name, name.startswith("<|") and name.endswith("|>"))


def _content(entry: JsonObject) -> str:
    content = entry.text("content", default="")
    if not content:
        raise EngineFailed(f"{entry.where}.content is missing; expected the token's text")
    return content
