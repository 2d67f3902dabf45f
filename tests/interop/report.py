"""The table of checks that a run prints, and on which it passes or fails."""
import numpy as np


class Report:
    def __init__(self):
        self.rows = []

    def true(self, check, ok, note=""):
        """A check that holds or does not; the note is for the second case."""
        self.rows.append((check, "", "", "" if ok else note, bool(ok)))
        return ok

    def same(self, check, ours, theirs):
        """Two values that must be equal; the row says how they differ."""
        return self.true(check, ours == theirs, f"{str(ours)[:90]} != {str(theirs)[:90]}")

    def near(self, check, ours, theirs, limit, problems=()):
        """Largest difference, relative to the root mean square of `theirs`, array by array; and no other problems."""
        ours, theirs = ([ours], [theirs]) if isinstance(theirs, np.ndarray) else (ours, theirs)
        worst = 0.0 if len(ours) == len(theirs) and len(theirs) > 0 else np.inf
        for a, b in zip(ours, theirs):
            a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
            rms = np.sqrt(np.mean(b * b))
            d = np.abs(a - b).max() / rms if a.shape == b.shape and rms > 0 else np.inf
            worst = max(worst, d if np.isfinite(d) else np.inf)
        ok = worst <= limit and not problems
        self.rows.append((check, f"{worst:.1e}", f"{limit:.0e}", "; ".join(map(str, problems))[:300], ok))
        return ok

    def text(self):
        wide = max(len(r[0]) for r in self.rows)
        lines = [f"{'check':{wide}}  deviation  limit  result"]
        for check, deviation, limit, note, ok in self.rows:
            lines.append(f"{check:{wide}}  {deviation:9}  {limit:5}  {'ok' if ok else 'FAILED'}  {note}".rstrip())
        failed = sum(not r[-1] for r in self.rows)
        return "\n".join(lines + [f"{len(self.rows)} checks, {failed} failed"]) + "\n"

    def failed(self):
        return any(not r[-1] for r in self.rows)
