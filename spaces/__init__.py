"""Per loss: each hyperparameter's type, legal bounds, default, range, scale and source. Without torch."""

from losstune.spaces.errors import InputError, StudyStopped
from losstune.spaces.hyperparameters import Choice, Hyperparameter, OfClasses, Option, Real
from losstune.spaces.lookup import all_spaces, check_hyperparameters, space_of
from losstune.spaces.losses import SPACES
from losstune.spaces.named import NAMED_SPACES, NamedSpace, named_space
from losstune.spaces.plugins import LossPlugin, plugin_source, plugin_version
from losstune.spaces.shared import NON_NEGATIVE, POSITIVE, SHARED
from losstune.spaces.space import Space, is_searched, members_of, qualified, settled

__all__ = [
    "NAMED_SPACES", "NON_NEGATIVE", "POSITIVE", "SHARED", "SPACES", "Choice", "Hyperparameter", "InputError",
    "LossPlugin", "NamedSpace", "OfClasses", "Option", "Real", "Space", "StudyStopped", "all_spaces",
    "check_hyperparameters", "is_searched", "members_of", "named_space", "plugin_source",
    "plugin_version", "qualified", "settled",
    "space_of",
]  # fmt: skip
