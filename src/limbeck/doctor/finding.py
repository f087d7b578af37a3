"""A finding: what a reader must be told, with its evidence, its usual cause and the cure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["error", "warning", "info"]
ORDER: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One thing that a reader of a run must be told.

    Args:
        code: its name, which stays the same between versions.
        severity: ``error``: the run makes no sense; ``warning``: its numbers mislead or can be better; ``info``.
        message: what was found, as a sentence without a full stop.
        evidence: the numbers that it rests on, in plain data.
        cause: the usual one.
        cure: what to do.

    Example:
        >>> Finding("no_control", "warning", "no control was trained").to_dict()["severity"]
        'warning'
    """

    code: str
    severity: Severity
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    cause: str = ""
    cure: str = ""

    def __str__(self) -> str:
        parts = [f"{self.severity}: {self.message}"]
        parts += [f"  {name}: {text}" for name, text in (("cause", self.cause), ("cure", self.cure)) if text]
        return "\n".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """As ``summary.json`` holds it.

        Example:
            >>> list(Finding("a", "info", "b").to_dict())
            ['code', 'severity', 'message', 'evidence', 'cause', 'cure']
        """
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "evidence": json.loads(json.dumps(dict(self.evidence))),
            "cause": self.cause,
            "cure": self.cure,
        }


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then warnings, then infos, each as they came; one that says the same twice is told once.

    Example:
        >>> [one.code for one in ordered([Finding("a", "info", "x"), Finding("b", "error", "y")])]
        ['b', 'a']
    """
    once: dict[tuple[str, str], Finding] = {}
    for one in findings:
        once.setdefault((one.code, one.message), one)
    return sorted(once.values(), key=lambda one: ORDER.index(one.severity))


def spoken(role: str) -> str:
    """A role in words.

    Example:
        >>> spoken("control_hard_labels")
        'control of hard labels'
    """
    if role == "control_direct":
        return "control without assistants"
    return role.replace("_", " of ", 1).replace("_", " ")


def percent(share: float) -> str:
    """A share in percent.

    Example:
        >>> percent(0.1234)
        '12.3 %'
    """
    return f"{100 * share:.1f} %"


__all__ = ["ORDER", "Finding", "Severity", "ordered", "percent", "spoken"]
