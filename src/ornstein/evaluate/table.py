# SPDX-License-Identifier: Apache-2.0
"""The one table of an evaluation: rows of figures beside the floor, as JSON, as cells for a report, as plain text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ornstein.base.errors import CheckpointError
from ornstein.evaluate.kinds import KINDS, LEVEL, METHOD
from ornstein.evaluate.metrics import Metric, Row

FORMAT = 1


def ratio_to_floor(metric: Metric, floor: Metric) -> tuple[float | None, str]:
    """metric / floor, or None and the reason why there is none. Raises ValueError for figures that do not compare."""
    if (metric.name, metric.n, metric.seed, metric.eye) != (floor.name, floor.n, floor.seed, floor.eye):
        raise ValueError(f"Not comparable: {metric.identity} / {floor.identity}.")
    if metric.value is None or floor.value is None:
        return None, metric.reason or floor.reason
    if KINDS[metric.name].no_ratio:
        return None, KINDS[metric.name].no_ratio
    return (metric.value / floor.value, "") if floor.value > 0 else (None, "the floor is 0")


def _range(low: float, high: float) -> str:
    return f"{low:.3g}{' to ' if low < 0 else '-'}{high:.3g}"


@dataclass(frozen=True)
class Table:
    """Rows of figures, the first of them the floor."""

    rows: tuple[Row, ...]

    @property
    def names(self) -> list[str]:
        """The figures that any row has, in the order of the columns."""
        return [name for name in KINDS if any(name in row.metrics for row in self.rows)]

    def ratio(self, row: Row, name: str) -> tuple[float | None, str]:
        """Ratio to the floor of one figure of a row; see `ratio_to_floor`."""
        return ratio_to_floor(row.metrics[name], self.rows[0].metrics[name])

    def document(self) -> dict[str, Any]:
        """All of it as a JSON object without NaN: what `evaluation.json` holds."""
        return {"format": FORMAT, "rows": [{"name": row.name, "note": row.note, "metrics": self._entries(row)} for row in self.rows]}

    def _entries(self, row: Row) -> dict[str, dict[str, Any]]:
        entries = {}
        for name, metric in row.metrics.items():
            ratio, reason = self.ratio(row, name)
            entries[name] = asdict(metric) | {"identity": metric.identity, "ratio_to_floor": ratio, "no_ratio_reason": reason}
        return entries

    @staticmethod
    def of_document(document: Mapping[str, Any]) -> Table:
        """Read back what `document` wrote. Raises CheckpointError for anything else."""
        fields, later = Metric.__dataclass_fields__, ("low", "high")  # which the first version did not write
        try:
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']} instead of {FORMAT}")
            rows = []
            for row in document["rows"]:
                metrics = {
                    name: Metric(**{key: entry.get(key) if key in later else entry[key] for key in fields})
                    for name, entry in row["metrics"].items()
                }
                rows.append(Row(row["name"], row["note"], {name: metrics[name] for name in KINDS if name in metrics}))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"This is no evaluation ({type(error).__name__}: {error}).", "Run: ornstein evaluate RUN") from error
        return Table(tuple(rows))

    def cells(self) -> list[list[str]]:
        """The table as strings: a line of titles, then a line per row; "-" where there is no figure."""
        titles = ["", *(KINDS[name].title for name in self.names)]
        return [titles, *([row.name, *(self._cell(row, name) for name in self.names)] for row in self.rows)]

    def _cell(self, row: Row, name: str) -> str:
        """Value, and for distances the ratio to the floor."""
        metric = row.metrics.get(name)
        if metric is None or metric.value is None:
            return "-"
        ratio, _ = self.ratio(row, name)
        return f"{metric.value:.3g}" if ratio is None or KINDS[name].better == "higher" else f"{metric.value:.3g} ({ratio:.2f}x)"

    def intervals(self, row: Row) -> list[str]:
        """The line below a row: the ends of each figure's interval; nothing where the row has none."""
        ends = [(metric.low, metric.high) if (metric := row.metrics.get(name)) is not None else (None, None) for name in self.names]
        if all(low is None for low, _ in ends):
            return []
        return [f"  {100 * LEVEL:.0f} %", *("" if low is None or high is None else _range(low, high) for low, high in ends)]

    def notes(self) -> list[str]:
        """What the rows and columns are, what every figure depends on, and why figures are missing; a sentence each."""
        rows = [f"{row.name}: {row.note}" for row in self.rows]
        columns = [f"{KINDS[name].title}: {KINDS[name].words}; {KINDS[name].better} is better." for name in self.names]
        measured: dict[str, list[str]] = {}
        for name in self.names:
            metric = next(row.metrics[name] for row in reversed(self.rows) if name in row.metrics)
            measured.setdefault(metric.conditions, []).append(KINDS[name].title)
        conditions = [f"Measured with {condition}: {', '.join(titles)}." for condition, titles in measured.items()]
        absent = [f"{row.name}, {KINDS[m.name].title}: {m.reason}." for row in self.rows for m in row.metrics.values() if m.value is None]
        within = any(metric.low is not None for row in self.rows for metric in row.metrics.values())
        return rows + columns + conditions + ([f"Below a row: {METHOD}."] if within else []) + absent

    def text(self) -> str:
        """The table in aligned columns with its notes below, as plain text."""
        titles, *rows = self.cells()
        cells = [titles, *(line for cells, row in zip(rows, self.rows, strict=True) for line in (cells, self.intervals(row)) if line)]
        widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
        lines = [
            f"{line[0]:<{widths[0]}}" + "".join(f"  {word:>{width}}" for word, width in zip(line[1:], widths[1:], strict=True))
            for line in cells
        ]
        return "\n".join([*lines, "", *self.notes()]) + "\n"
