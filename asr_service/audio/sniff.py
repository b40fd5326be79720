"""What bytes look like, from their beginning alone. Names for messages; the containers' names also pick the demuxer."""

from __future__ import annotations

from asr_service.audio.mp3 import find_mp3, is_mp3_settled

SNIFF_BYTES = 8_192
"""As many bytes of the beginning as a verdict may need: three MP3 frames behind a little junk."""

_MAGIC: tuple[tuple[int, bytes, str], ...] = (  # offset, bytes, name; the first match wins
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "Ogg"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska/WebM"),
    (4, b"ftyp", "MP4"),
    (4, b"moov", "MP4"),
    (4, b"mdat", "MP4"),
    (4, b"wide", "MP4"),
    (0, b".snd", "AU"),
    (0, b"caff", "CAF"),
    (0, b"ID3", "ID3 tag"),
    (0, b"#!AMR", "AMR audio"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF/WMA"),
    (0, b"FLV\x01", "FLV video"),
    (0, b"\x89PNG\r\n\x1a\n", "PNG image"),
    (0, b"\xff\xd8\xff", "JPEG image"),
    (0, b"GIF8", "GIF image"),
    (0, b"%PDF", "PDF"),
    (0, b"PK\x03\x04", "ZIP archive"),
    (0, b"PK\x05\x06", "ZIP archive"),
    (0, b"\x1f\x8b", "gzip archive"),
    (0, b"BZh", "bzip2 archive"),
    (0, b"\xfd7zXZ\x00", "XZ archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "7-Zip archive"),
    (0, b"Rar!", "RAR archive"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard archive"),
    (0, b"\x7fELF", "program"),
    (0, b"MZ", "program"),
    (0, b"SQLite format 3", "SQLite database"),
)

_MAGIC_BYTES = 16
"""From here on no more bytes can bring or take a match of a magic or a family."""

_FAMILIES = {  # four letters, a size, and then the name of the kind
    (b"RIFF", b"WAVE"): "WAV",
    (b"RF64", b"WAVE"): "WAV",
    (b"RIFF", b"WEBP"): "WebP image",
    (b"RIFF", b"AVI "): "AVI video",
    (b"FORM", b"AIFF"): "AIFF",
    (b"FORM", b"AIFC"): "AIFF",
}


def sniff(head: bytes) -> str:
    """Names what the bytes look like: "WAV", "MP3", "PNG image", "HTML", "text", "unknown bytes 0x00ff..." and so on."""
    if not head:
        return "nothing"
    name = _sniff_magic(head)
    if name is not None:
        return name
    if _is_adts_header(head):
        return "AAC"
    if find_mp3(head) is not None:
        return "MP3"
    return _sniff_text(head) or f"unknown bytes 0x{head[:8].hex()}"


def is_settled(head: bytes) -> bool:
    """Whether `sniff` says the same of these bytes whatever follows them, so that there is no need to wait for SNIFF_BYTES."""
    if len(head) >= SNIFF_BYTES:
        return True
    if len(head) < _MAGIC_BYTES:
        return False
    if _sniff_magic(head) is not None:
        return True
    n_bytes = adts_frame_bytes(head)
    if n_bytes is not None and len(head) < n_bytes + 7:
        return False
    return _is_adts_header(head) or is_mp3_settled(head)


def _sniff_magic(head: bytes) -> str | None:
    family = _FAMILIES.get((head[:4], head[8:12]))
    if family is not None:
        return family
    return next((name for offset, magic, name in _MAGIC if head.startswith(magic, offset)), None)


def _sniff_text(head: bytes) -> str | None:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.reason != "unexpected end of data":  # a character cut at the end of the head is still text
            return None
        text = head[: error.start].decode("utf-8")
    if any(ord(c) < 32 and c not in "\t\n\r\f\x1b" for c in text):
        return None
    start = text.lstrip("\ufeff \t\r\n").lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<body")):
        return "HTML"
    if start.startswith("<"):
        return "XML"
    if start.startswith(("{", "[")):
        return "JSON"
    return "text"


def adts_frame_bytes(header: bytes) -> int | None:
    """Length of the ADTS frame that starts with these (at least 7) bytes; None when no frame starts here."""
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0 or (header[2] >> 2) & 0xF > 12:
        return None
    n_bytes = (header[3] & 0x3) << 11 | header[4] << 3 | header[5] >> 5
    return n_bytes if n_bytes >= 7 else None


def _is_adts_header(head: bytes) -> bool:
    n_bytes = adts_frame_bytes(head)
    if n_bytes is None:
        return False
    following = head[n_bytes : n_bytes + 7]
    return len(following) < 7 or adts_frame_bytes(following) is not None
