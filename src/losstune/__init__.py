"""losstune: which loss should I train with, at which hyperparameters, and is the difference real?"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Resolved on first use: torch alone takes two seconds to import, and most of the command line does not need it.
_PUBLIC = {
    "InputError": "losstune.spaces",
    "make_loss": "losstune.trainables.losses.own_loop",
    "make_head": "losstune.trainables.losses.own_loop",
    "compare": "losstune.analysis.significance",
    "load_study": "losstune.search.study",
    "run_study": "losstune.search.phases",
    "load_results": "losstune.search.recorded",
    "load_model": "losstune.trainables.predictor",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'losstune' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return __all__
