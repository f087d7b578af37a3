"""The public names as editors and type checkers see them; tests hold this file equal to ``_PUBLIC``."""

from . import conformance as conformance
from . import losses as losses
from . import models as models
from .compress import predict_images as predict_images
from .data import Data as Data
from .data import Normalization as Normalization
from .data import Views as Views
from .errors import LimbeckError as LimbeckError
from .objective import Objective as Objective
from .objective import hard_labels as hard_labels
from .objective import supervised as supervised
from .objective import term as term
from .outputs import Outputs as Outputs
from .pairing import pair_layers as pair_layers
from .pipeline.distill import distill as distill
from .pipeline.distill import examine as examine
from .pipeline.modes.calls import born_again as born_again
from .pipeline.modes.calls import chain as chain
from .pipeline.modes.calls import mutual as mutual
from .pipeline.modes.calls import self_distill as self_distill
from .pipeline.result import Result as Result
from .recipe.recipe import Recipe as Recipe
from .store import Store as Store
from .teachers import Ensemble as Ensemble
from .teachers import FunctionTeacher as FunctionTeacher
from .teachers import ModuleTeacher as ModuleTeacher
from .teachers import OnnxTeacher as OnnxTeacher
from .teachers import SklearnTeacher as SklearnTeacher
from .teachers import Teacher as Teacher
from .teachers import as_teacher as as_teacher
from .teachers import reordered as reordered

__version__: str
