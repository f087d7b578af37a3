"""The report: one self-contained page from a run folder, and nothing else."""

from limbeck.report.compare import compare
from limbeck.report.numbers import results_rows

__all__ = ["compare", "results_rows", "write_report"]


def __getattr__(name: str) -> object:
    # The page needs matplotlib and jinja2; a table in the terminal does not.
    if name == "write_report":
        from limbeck.report.render import write_report

        return write_report
    raise AttributeError(name)
