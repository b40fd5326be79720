"""The parser of the stock package alone: importing the package would load torch and much more."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from typing import Any, cast

_WANTED = ("parse_asr_output", "normalize_language_name", "_ASR_TEXT_TAG", "_LANG_PREFIX")


def parse(raw: str, forced: str | None = None) -> tuple[str, str]:
    """Language name and text, without its deletion of repetitions, which are honest here."""
    names = _load()
    return cast("tuple[str, str]", names["parse_asr_output"](raw, forced))


def _load() -> dict[str, Any]:
    spec = importlib.util.find_spec("qwen_asr")
    assert spec is not None, "qwen-asr is not installed"
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / "inference" / "utils.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if _name(node) in _WANTED]
    names: dict[str, Any] = {"detect_and_fix_repetitions": lambda text: text}
    exec(compile(tree, str(path), "exec", flags=annotations.compiler_flag), names)  # noqa: S102  # its types are not here
    return names


def _name(node: ast.stmt) -> str:
    if isinstance(node, ast.FunctionDef):
        return node.name
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return ""
