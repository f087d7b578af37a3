"""What a run gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.evaluation.dense.told import division
from limbeck.evaluation.names import shown, title


@dataclass(frozen=True, repr=False)
class Result:
    """The outcome of a run: its folder, its summary, and its models as plain modules.

    In a notebook it draws itself.

    Example:
        >>> print(Result(Path("runs/demo"), {"verdict": "No control was trained."}))
        No control was trained.
        Report: runs/demo/report.html
    """

    folder: Path
    summary: dict[str, Any]
    load: Callable[[str], nn.Module] | None = None

    @property
    def student(self) -> nn.Module:
        """The student that ships, with its selected weights: a plain module in eval mode."""
        return self.model(self.summary.get("shipped_role", "student"))

    @property
    def control(self) -> nn.Module:
        """The control of the same seed."""
        return self.model("control")

    @property
    def teacher(self) -> nn.Module:
        """The teacher."""
        return self.model("teacher")

    @property
    def report(self) -> Path:
        """The page."""
        return self.folder / "report.html"

    def __str__(self) -> str:
        return f"{self.summary.get('verdict', '')}\nReport: {self.report}"

    def __repr__(self) -> str:
        return f"Result({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        rows, metric = [], self.summary.get("metric", "accuracy")
        for role, model in self.summary.get("models", {}).items():
            test = model["metrics"].get("test") or model["metrics"].get("validation", {})
            score = shown(metric, test.get(metric))
            size = "–" if model["parameters"] is None else f"{model['parameters']:,}"
            rows.append(f"<tr><td>{escape(role)}</td><td>{score}</td><td>{size}</td></tr>")
        divided = division(self.summary)
        where = f"{title(metric)}, {divided}" if divided else title(metric)
        head = f"<tr><th>model</th><th>test {escape(where)}</th><th>parameters</th></tr>"
        table = f"<table><caption>{escape(self.summary.get('verdict', ''))}</caption>{head}{''.join(rows)}</table>"
        return f"{table}<p>Report: <code>{escape(str(self.report))}</code></p>"

    def model(self, role: str) -> nn.Module:
        """The model of a role of the summary's ``models``, such as ``assistant`` or ``generation1``."""
        if self.load is None:
            raise AttributeError(f"this result has no {role} at hand: read {self.folder / 'student.safetensors'}")
        return self.load(role)
