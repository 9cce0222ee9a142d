"""Where torch.compile keeps the kernels it has made, so that the next process does not make them again."""

from __future__ import annotations

import os
from pathlib import Path


def keep_compiled_kernels() -> None:
    """Name a folder that outlasts a restart, unless TORCHINDUCTOR_CACHE_DIR names one; torch's own is temporary."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "losstune" / "kernels"))
