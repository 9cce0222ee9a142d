"""What must be said to NumPy before it is loaded. Without NumPy and torch, so that it can be the first thing done."""

from __future__ import annotations

import os
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
_WIDE = {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"}


def prefer_wide_kernels() -> None:
    """Ask NumPy's OpenBLAS for its 512-bit kernels on an AMD processor that has the instructions.

    By itself it takes 256-bit kernels there, which are half as fast. It reads its settings when it is loaded, so this
    acts on processes that are started later, and on this one if it has not imported NumPy. What is set already stays.
    """
    processor = _processor()
    if "AMD" in processor.get("vendor_id", "") and set(processor.get("flags", "").split()) >= _WIDE:
        os.environ.setdefault("OPENBLAS_CORETYPE", "SKYLAKEX")


def _processor() -> dict[str, str]:
    """What Linux says of the first core; nothing elsewhere."""
    try:
        first = CPUINFO.read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
