"""What every loss has to hold, taken from what it declares; ``check(loss)`` takes a user's own through it."""

from limbeck.conformance.report import CHECKS, Finding, Report, check, examine

__all__ = ["CHECKS", "Finding", "Report", "check", "examine"]
