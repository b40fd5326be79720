"""Texts cut into the units that the forced aligner was trained on, with the same libraries for Japanese and Korean.

nagisa and soynlp take a second to import and are imported when the first such text comes. Korean needs a list of words too,
which only the qwen-asr package brings; its file is read, the package is not imported.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from asr_service.decoding.units import Tokenise, Unit, cut_units, needs_tokeniser
from asr_service.errors import FeatureUnavailable
from asr_service.languages import Language

_KOREAN_WORDS = Path("inference/assets/korean_dict_jieba.dict")


class WordTokenisers:
    """Cuts texts of all languages; may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # the libraries say nothing about threads
        self._loaded: dict[str, Tokenise] = {}

    def __call__(self, text: str, language: Language) -> Sequence[Unit]:
        """Raises FeatureUnavailable, saying what to install, when the language's tokeniser is not there."""
        if not needs_tokeniser(language):
            return cut_units(text)
        with self._lock:
            if language.code not in self._loaded:
                self._loaded[language.code] = _japanese() if language.code == "ja" else _korean()
            return cut_units(text, self._loaded[language.code])


def _japanese() -> Tokenise:
    _require("Japanese", "nagisa", "pip install nagisa")
    import nagisa

    def tokenise(text: str) -> Sequence[str]:
        words: Sequence[str] = nagisa.tagging(text).words
        return words

    return tokenise


def _korean() -> Tokenise:
    _require("Korean", "soynlp", "pip install soynlp")
    _require("Korean", "qwen_asr", "pip install --no-deps qwen-asr==0.0.6")
    from soynlp.tokenizer import LTokenizer

    spec = find_spec("qwen_asr")
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()] if spec is not None else []
    path = next((folder / _KOREAN_WORDS for folder in folders if (folder / _KOREAN_WORDS).is_file()), None)
    if path is None:
        raise FeatureUnavailable(f"words of Korean cannot be told apart: this qwen-asr has no {_KOREAN_WORDS}")
    entries = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
    tokeniser = LTokenizer(scores={entry[0]: 1.0 for entry in entries if entry})

    def tokenise(text: str) -> Sequence[str]:
        words: Sequence[str] = tokeniser.tokenize(text)
        return words

    return tokenise


def _require(language: str, module: str, command: str) -> None:
    if find_spec(module) is None:
        raise FeatureUnavailable(f"words of {language} cannot be told apart: {module} is not installed ({command})")
