"""Writes docs/performance.md from bench/results/*.json; with --check says whether it is what the results say."""

import json
import sys
from pathlib import Path
from typing import Any

RESULTS = Path("bench/results")
TARGET = Path("docs/performance.md")
HEADER = """# Performance

Written by `make generate` from `bench/results`; each table is one program's last committed run. Ratios compare two things in
one run of one machine; min and max are those of its pairs. `make bench-NAME` measures anew.
"""


def main() -> None:
    text = HEADER + "".join(section(path) for path in sorted(RESULTS.glob("*.json")))
    if "--check" not in sys.argv:
        TARGET.write_text(text)
    elif not TARGET.is_file() or TARGET.read_text() != text:
        sys.exit(f"{TARGET} is not what the results say; run `make generate`")


def section(path: Path) -> str:
    entries: list[dict[str, Any]] = json.loads(path.read_text())
    heading = [f"\n## `bench/{path.stem}.py`\n", conditions([entry["conditions"] for entry in entries])]
    if (picture := path.with_suffix(".svg")).is_file():
        heading.append(f"![{path.stem}](../{picture.as_posix()})\n")
    lines = [*heading, "| id | what | value | min to max | target | met |", "|--|--|--:|--:|--:|--|"]
    return "\n".join([*lines, *map(row, entries)]) + "\n"


def conditions(each: list[dict[str, Any]]) -> str:
    """Those that all rows share; the others stand in the results."""
    first, *others = each
    shared = {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}
    return "; ".join(f"{name} {value}" for name, value in shared.items()) + ".\n"


def row(entry: dict[str, Any]) -> str:
    spread = f"{entry['min']} to {entry['max']}" if entry.get("min") is not None else ""
    met = {True: "yes", False: "**no**", None: ""}[entry.get("met")]
    target = "" if entry.get("target") is None else entry["target"]
    return f"| {entry.get('id', '')} | {entry['what']} | {entry['value']} {entry['unit']} | {spread} | {target} | {met} |"


if __name__ == "__main__":
    main()
