"""JSON files of a checkpoint, read with messages that name the file, the key, what was found and what was expected."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr_service.engine.protocol import EngineFailed


@dataclass(frozen=True, slots=True)
class JsonObject:
    """An object in a JSON file. `where`: the file and the path of keys to this object, for messages.

    Getters take every name that the key goes by and raise EngineFailed for a value of the wrong kind, or for none at all where
    no default is given. A null is taken as absent.
    """

    where: str
    values: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> JsonObject:
        """Raises EngineFailed when the file is not there, cannot be read, or is not an object."""
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise EngineFailed(f"{path}: no such file") from None
        except OSError as error:
            raise EngineFailed(f"{path}: cannot be read: {error.strerror or error}") from None
        except ValueError as error:  # a JSON or UTF-8 error, also after a download that broke off
            raise EngineFailed(f"{path}: not valid JSON: {error}") from None
        if not isinstance(value, dict):
            raise EngineFailed(f"{path}: {_shown(value)} found, an object expected")
        return cls(f"{path}:", value)

    def __contains__(self, name: str) -> bool:
        return self.values.get(name) is not None

    def section(self, *names: str, default: Mapping[str, Any] | None = None) -> JsonObject:
        name, value = self._first(names)
        if value is None and default is not None:
            value = default
        if not isinstance(value, dict):
            raise self._refused(name, value, "an object")
        return JsonObject(self._path(name), value)

    def integer(self, *names: str, default: int | None = None, minimum: int = 1) -> int:
        name, value = self._first(names)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise self._refused(name, value, f"a whole number of at least {minimum}")
        return value

    def number(self, *names: str, default: float | None = None) -> float:
        """A number above zero."""
        name, value = self._first(names)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
            raise self._refused(name, value, "a number above 0")
        return float(value)

    def flag(self, *names: str, default: bool) -> bool:
        name, value = self._first(names)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self._refused(name, value, "true or false")
        return value

    def text(self, *names: str, default: str) -> str:
        name, value = self._first(names)
        value = default if value is None else value
        if not isinstance(value, str):
            raise self._refused(name, value, "a string")
        return value

    def texts(self, *names: str) -> tuple[str, ...]:
        """A list of strings; empty where the key is absent."""
        name, value = self._first(names)
        value = [] if value is None else value
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self._refused(name, value, "a list of strings")
        return tuple(value)

    def integers(self, *names: str) -> tuple[int, ...]:
        """One number or a list of them; empty where the key is absent."""
        name, value = self._first(names)
        items = [] if value is None else value if isinstance(value, list) else [value]
        if not all(isinstance(item, int) and not isinstance(item, bool) and item >= 0 for item in items):
            raise self._refused(name, value, "a whole number or a list of them")
        return tuple(items)

    def must_be(self, name: str, found: Any, *expected: Any) -> None:
        """Raises EngineFailed unless the value found under a name is among those expected."""
        if found not in expected:
            raise self._refused(name, found, " or ".join(_shown(value) for value in expected))

    def _first(self, names: tuple[str, ...]) -> tuple[str, Any]:
        for name in names:
            if self.values.get(name) is not None:
                return name, self.values[name]
        return names[0], None

    def _path(self, name: str) -> str:
        return f"{self.where}{' ' if self.where.endswith(':') else '.'}{name}"

    def _refused(self, name: str, found: Any, expected: str) -> EngineFailed:
        if found is None:
            return EngineFailed(f"{self._path(name)} is missing; expected {expected}")
        return EngineFailed(f"{self._path(name)} is {_shown(found)}; expected {expected}")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
