"""Settings read from the environment: typed, strict, and able to explain themselves.

A program declares its settings as an EnvironmentSettings with one field per variable; `load` reads them or stops the process
with one line per bad value: the name, the value, what was expected. Names from the older servers are either aliases of a field
or listed as `Refusal`s: features this version does not have, refused unless set to their off value, so that nothing is accepted
and ignored.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import AliasChoices, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict


@dataclass(frozen=True, slots=True)
class Refusal:
    """A variable whose feature does not exist here: `off` are the values that ask for nothing (besides the empty one)."""

    name: str
    off: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One line of the settings table in the documentation."""

    names: tuple[str, ...]
    default: str
    description: str


class BadSettings(Exception):
    """One or more variables are wrong; the message has a line for each."""


class EnvironmentSettings(BaseSettings):
    """Base of a program's settings. Field names in lower case are the variable names; aliases are further spellings."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, populate_by_name=True)

    refusals: ClassVar[tuple[Refusal, ...]] = ()

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Reads the environment; `overrides` win. Raises BadSettings."""
        problems = [*cls._conflicts(os.environ), *cls._refused(os.environ)]
        try:
            settings = cls(**overrides)
        except ValidationError as error:
            problems += [_explain(cls, e["loc"], e.get("input"), e["msg"]) for e in error.errors()]
            raise BadSettings("\n".join(problems)) from None
        if problems:
            raise BadSettings("\n".join(problems))
        return settings

    @classmethod
    def rows(cls) -> Iterator[SettingRow]:
        """The settings table, for the documentation."""
        for name, field in cls.model_fields.items():
            yield SettingRow(
                variable_names(name, field), _show(field.get_default(call_default_factory=True)), field.description or ""
            )

    @classmethod
    def _refused(cls, environ: Mapping[str, str]) -> Iterator[str]:
        for refusal in cls.refusals:
            value = environ.get(refusal.name, "").strip()
            if value and value.lower() not in refusal.off:
                off = " or ".join(repr(v) for v in refusal.off) or "nothing"
                yield f"{refusal.name}={value!r}: {refusal.why}; unset it or set it to {off}"

    @classmethod
    def _conflicts(cls, environ: Mapping[str, str]) -> Iterator[str]:
        for name, field in cls.model_fields.items():
            given = {n: environ[n] for n in variable_names(name, field) if environ.get(n)}
            if len(set(given.values())) > 1:
                both = " and ".join(f"{n}={v!r}" for n, v in given.items())
                yield f"{both}: two names of one setting with different values; keep one"


def variable_names(name: str, field: FieldInfo) -> tuple[str, ...]:
    """All spellings of a field's variable, the preferred one first."""
    if isinstance(field.validation_alias, AliasChoices):
        return tuple(str(choice).upper() for choice in field.validation_alias.choices)
    return (name.upper(),)


def _explain(cls: type[EnvironmentSettings], location: tuple[int | str, ...], value: Any, message: str) -> str:
    if not location:
        return message.removeprefix("Value error, ")
    key = str(location[0])
    for name, field in cls.model_fields.items():
        names = variable_names(name, field)
        if key.upper() in names or key == name:
            used = next((n for n in names if os.environ.get(n)), names[0])
            return f"{used}={value!r}: {message.removeprefix('Value error, ')} ({field.description})"
    return f"{key}={value!r}: {message}"


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list | frozenset):
        return ",".join(str(v) for v in value)
    return "" if value is None else str(value)
