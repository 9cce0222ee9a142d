"""Where torch.compile keeps the kernels it has made, so that the next process does not make them again."""

from __future__ import annotations

import os

from losstune.trainables.cache import cache_folder


def keep_compiled_kernels() -> None:
    """Name a folder that outlasts a restart, unless TORCHINDUCTOR_CACHE_DIR names one; torch's own is temporary."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder() / "kernels"))
