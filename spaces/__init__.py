"""Per loss: each hyperparameter's type, legal bounds, default, range, scale and source. Without torch."""

from losstune.spaces.errors import InputError, StudyStopped
from losstune.spaces.hyperparameters import Choice, Hyperparameter, Option, Real
from losstune.spaces.losses import SPACES, Space, check_hyperparameters, is_searched, space_of
from losstune.spaces.shared import SHARED

__all__ = [
    "SHARED", "SPACES", "Choice", "Hyperparameter", "InputError", "Option", "Real", "Space", "StudyStopped",
    "check_hyperparameters", "is_searched", "space_of",
]  # fmt: skip
