"""Numbers, tables and sentences of docs/evidence.md."""
import textwrap

import plan


def number(x, digits=4):
    return "–" if x is None else f"{x:.{digits}f}"


def rate(x):
    return "–" if x is None else f"{x:g}"


def cell(row):
    if row is None:
        return "not run"
    if row.get("diverged"):
        return f"diverged ({row['diverged']} of {len(row['seeds'])})"
    if row["mean"] is None:
        return "failed"
    held = sum(v is not None for v in row["values"])
    spread = f" ± {number(row['sd'])}" if row["sd"] is not None else ""
    return number(row["mean"]) + spread + (f" ({held} of {len(row['values'])} seeds)" if held < len(row["values"]) else "")


def grid(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(map(str, r)) + " |" for r in rows]) + "\n"


def pick(rows, **keys):
    return next((r for r in rows if all(r.get(k) == v for k, v in keys.items())), None)


def wrapped(line):
    if line.startswith(("|", "#", "!")) or "\n" in line:
        return line
    return textwrap.fill(line, 120, subsequent_indent="  " if line.startswith("* ") else "", break_long_words=False,
                         break_on_hyphens=False)


def sets_of(rows):
    return [s for s in plan.SETS if any(r["set"] == s for r in rows)]


def listing(words):
    words = list(words)
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1] if words else "none"
