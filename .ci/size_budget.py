"""Keeps modules and functions readable in one sitting: at most 400 lines a module, 60 lines a function."""

import ast
from collections.abc import Iterator
from pathlib import Path

MODULE_LINES = 400
FUNCTION_LINES = 60
PACKAGES = ("asr_service", "rest_bridge")
GENERATED = Path("asr_service/pb")


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (p for p in sorted(Path(package).rglob("*.py")) if GENERATED not in p.parents)


def breaches(path: Path) -> Iterator[str]:
    text = path.read_text()
    if (n_lines := len(text.splitlines())) > MODULE_LINES:
        yield f"{path}: {n_lines} lines (limit {MODULE_LINES})"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            n_lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if n_lines > FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {n_lines} lines (limit {FUNCTION_LINES})"


def main() -> None:
    if found := [breach for path in sources() for breach in breaches(path)]:
        raise SystemExit("\n".join(found))


if __name__ == "__main__":
    main()
