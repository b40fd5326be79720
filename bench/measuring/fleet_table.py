"""The figures of bench/scaling.py as the table in docs/scaling.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

BEGIN, END = "<!-- written by bench/scaling.py: begin -->", "<!-- end -->"
_FACTS = ("streams moved", "seconds until it stays within the limit", "fullest over mean", "fullest over mean afterwards")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line for each question, one column for each device; behind a figure what else was found, if it says more."""
    devices = list(dict.fromkeys(row["conditions"]["costs"] for row in rows))
    kinds = {row["conditions"]["costs"]: row["conditions"]["costs are"] for row in rows}
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        device = row["conditions"]["costs"]
        cells.setdefault(row["what"].removeprefix(f"{device}: "), {})[device] = _cell(row)
    head = [f"| | {' | '.join(devices)} |", "|--|" + "--:|" * len(devices)]
    head.append(f"| *the costs are* | {' | '.join(f'*{kinds[device]}*' for device in devices)} |")
    return "\n".join([*head, *(f"| {what} | {' | '.join(cell.get(d, '') for d in devices)} |" for what, cell in cells.items())])


def put_into(page: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The page with its table written anew."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{table(rows)}\n{END}{rest.partition(END)[2]}"


def _cell(row: Mapping[str, Any]) -> str:
    short = {"streams moved": "moved", "seconds until it stays within the limit": "s late"}
    facts = {short.get(name, "x mean"): row["conditions"][name] for name in _FACTS if name in row["conditions"]}
    told = ", ".join(f"{value} {name}" for name, value in facts.items() if (name, value) != ("x mean", 1.0))
    unit = "" if row["unit"] in ("streams", "replicas") else f" {row['unit']}"
    return f"{row['value']:,.0f}{unit}" + (f" ({told})" if told else "")
