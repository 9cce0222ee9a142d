"""Where losstune keeps, for all studies of a user, what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Where losstune keeps what it can make again: XDG_CACHE_HOME/losstune, else ~/.cache/losstune."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "losstune"
