"""The thirty languages of Qwen3-ASR, by code and by English name."""

from __future__ import annotations

from dataclasses import dataclass

from asr_service.errors import UnknownLanguage, Violation


@dataclass(frozen=True, slots=True)
class Language:
    """A language: ISO 639-1 code where one exists, else 639-3, and its English name."""

    code: str
    name: str


LANGUAGES: tuple[Language, ...] = tuple(
    Language(code, name)
    for code, name in [
        ("zh", "Chinese"), ("en", "English"), ("yue", "Cantonese"), ("ar", "Arabic"), ("de", "German"), ("fr", "French"),
        ("es", "Spanish"), ("pt", "Portuguese"), ("id", "Indonesian"), ("it", "Italian"), ("ko", "Korean"), ("ru", "Russian"),
        ("th", "Thai"), ("vi", "Vietnamese"), ("ja", "Japanese"), ("tr", "Turkish"), ("hi", "Hindi"), ("ms", "Malay"),
        ("nl", "Dutch"), ("sv", "Swedish"), ("da", "Danish"), ("fi", "Finnish"), ("pl", "Polish"), ("cs", "Czech"),
        ("fil", "Filipino"), ("fa", "Persian"), ("el", "Greek"), ("hu", "Hungarian"), ("mk", "Macedonian"), ("ro", "Romanian"),
    ]
)  # fmt: skip

ENGLISH = Language("en", "English")

_SYNONYMS = {
    # other codes and names in use
    "tl": "fil", "tagalog": "fil", "in": "id", "cmn": "zh", "mandarin": "zh", "farsi": "fa",
    # ISO 639-2/3 codes, bibliographic ones included
    "zho": "zh", "chi": "zh", "eng": "en", "ara": "ar", "deu": "de", "ger": "de", "fra": "fr", "fre": "fr", "spa": "es",
    "por": "pt", "ind": "id", "ita": "it", "kor": "ko", "rus": "ru", "tha": "th", "vie": "vi", "jpn": "ja", "tur": "tr",
    "hin": "hi", "msa": "ms", "may": "ms", "nld": "nl", "dut": "nl", "swe": "sv", "dan": "da", "fin": "fi", "pol": "pl",
    "ces": "cs", "cze": "cs", "tgl": "fil", "fas": "fa", "per": "fa", "ell": "el", "gre": "el", "hun": "hu", "mkd": "mk",
    "mac": "mk", "ron": "ro", "rum": "ro",
}  # fmt: skip

_BY_KEY = {key: language for language in LANGUAGES for key in (language.code, language.name.lower())}
_BY_KEY |= {synonym: _BY_KEY[code] for synonym, code in _SYNONYMS.items()}


def parse_language(text: str, field: str = "config.language") -> Language | None:
    """The language a client named by code ("de"), BCP-47 tag ("zh-Hant-TW", "pt_BR") or English name ("German"), in any case.

    None for "" and "auto": detection. A Chinese tag that names yue ("zh-yue") is Cantonese; "zh-HK" alone is Chinese.
    Raises UnknownLanguage, listing the valid ones.
    """
    key = text.strip().lower().replace("_", "-")
    if key in ("", "auto"):
        return None
    if found := _BY_KEY.get(key):
        return found
    primary, *rest = key.split("-")
    if primary == "zh" and "yue" in rest:
        return _BY_KEY["yue"]
    if rest and primary in _BY_KEY and _is_tag(primary, rest):
        return _BY_KEY[primary]
    valid = ", ".join(f"{language.code} ({language.name})" for language in LANGUAGES)
    raise UnknownLanguage(
        f"{field}: {text[:64]!r} is not a known language; valid: auto, {valid}",
        violations=(Violation(field, f"unknown language {text[:64]!r}"),),
    )


def _is_tag(primary: str, subtags: list[str]) -> bool:
    return len(primary) <= 3 and all(subtag.isalnum() and len(subtag) <= 8 for subtag in subtags)
