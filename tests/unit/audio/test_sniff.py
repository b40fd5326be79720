from __future__ import annotations

import pytest

from asr_service.audio.formats import AUDIO_FORMATS, CONTAINERS
from asr_service.audio.sniff import SNIFF_BYTES, sniff
from tests.synth import RECIPES, make


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"", "nothing"),
        (b"\x00\xff\x00\xff", "unknown bytes 0x00ff00ff"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "WebP image"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "AVI video"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "JPEG image"),
        (b"GIF89a", "GIF image"),
        (b"\x1f\x8b\x08", "gzip archive"),
        (b"  \n<HTML>", "HTML"),
        (b"<?xml version='1.0'?>", "XML"),
        (b'{"error": "not found"}', "JSON"),
        ("Grüße".encode(), "text"),
        ("Grüße aus Köl".encode() + b"\xc3", "text"),  # cut inside a character
        (b"\xff\xfb", "unknown bytes 0xfffb"),
    ],
)
def test_names(head: bytes, name: str) -> None:
    assert sniff(head) == name


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_format_made_is_a_known_container(recipe: str) -> None:
    data = make(recipe, 0.5)
    name = sniff(data[:SNIFF_BYTES])

    assert name in CONTAINERS or (recipe == "mp3" and name == "ID3 tag")


def test_the_formats_told_to_clients_are_told_once() -> None:
    assert len(set(AUDIO_FORMATS)) == len(AUDIO_FORMATS)
