"""Teachers: anything that gives Outputs for a batch."""

from limbeck.teachers.checks import check_logits, detect_probabilities
from limbeck.teachers.ema import EmaTeacher
from limbeck.teachers.ensemble import Ensemble, as_teacher, reading
from limbeck.teachers.estimator import SklearnTeacher
from limbeck.teachers.modules import FunctionTeacher, ModuleTeacher, evaluating
from limbeck.teachers.onnx import OnnxTeacher
from limbeck.teachers.protocol import Keeps, Normalize, Place, Teacher, asked
from limbeck.teachers.recorded import Recorded
from limbeck.teachers.reordered import reordered

__all__ = [
    "EmaTeacher",
    "Ensemble",
    "FunctionTeacher",
    "Keeps",
    "ModuleTeacher",
    "Normalize",
    "OnnxTeacher",
    "Place",
    "Recorded",
    "SklearnTeacher",
    "Teacher",
    "as_teacher",
    "asked",
    "check_logits",
    "detect_probabilities",
    "evaluating",
    "reading",
    "reordered",
]
