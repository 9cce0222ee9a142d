"""How rows are shown: one by one while they come, then a table by fault and phase."""

from __future__ import annotations

from collections.abc import Iterable

from faults.harness import Row

HEAD = ("fault", "study", "phase", "times", "survived", "lost", "repeated epochs", "confirm equal")


def line(row: Row) -> str:
    """One row, and what is wrong with it."""
    said = "survived" if row.survived else "NOT SURVIVED"
    first = (f"{said}: {row.fault}, {row.study}, {row.share:.0%} into {row.phase} ({row.seconds:.0f} s; "
             f"lost {row.lost}, repeated {_or_dash(row.repeated)} of at most {_or_dash(row.bound)}, "
             f"confirm numbers {'equal' if row.equal else 'NOT equal'}; {', '.join(row.notes)})")  # fmt: skip
    return "\n".join([first, *(f"    {problem}" for problem in row.problems)])


def table(rows: Iterable[Row]) -> str:
    """A line per fault, study and phase."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.fault, row.study, row.phase), []).append(row)
    lines = [HEAD]
    for names, group in groups.items():
        repeated = [row.repeated for row in group if row.repeated is not None]
        lines.append((*names, str(len(group)), f"{sum(row.survived for row in group)} of {len(group)}",
                      str(sum(row.lost for row in group)), _or_dash(max(repeated, default=None)),
                      "yes" if all(row.equal for row in group) else "NO"))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
                     for cells in lines)  # fmt: skip


def _or_dash(value: object) -> str:
    return "-" if value is None else str(value)
