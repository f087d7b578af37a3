"""The objective: a named, weighted list of terms, and the only place where anything is reduced to a scalar."""

from limbeck.objective.binding import Scene, bind
from limbeck.objective.kept import check_kept, temperatures_read
from limbeck.objective.terms import Term, hard_labels, supervised, term
from limbeck.objective.weighted import Objective

__all__ = ["Objective", "Scene", "Term", "bind", "check_kept", "hard_labels", "supervised", "temperatures_read", "term"]
