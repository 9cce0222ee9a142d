"""What was measured on this machine, kept beyond the study: equal studies then compute alike here, bit for bit.

Backends round differently, and which one is fastest may be a matter of chance. A study keeps its choice in its ledger;
here it is kept for the next one, and for one that is killed before it has a ledger's word on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from losstune.trainables.backends import Choice
from losstune.trainables.cache import cache_folder
from losstune.trainables.checkpoint import write_bytes
from losstune.trainables.job import Job


def remembered(job: Job, device: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What measure() gave when this machine was first asked for this network, recipe and device; else measured now.

    Of several processes that ask at once one measures, and the others wait for it. Where nothing can be kept, each
    measures.
    """
    path = cache_folder() / "backends" / f"{_digest(job, device)}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open(path.with_suffix(".lock"), "w")  # noqa: SIM115 (closed below)
    except OSError:
        return measure()
    with lock:
        with contextlib.suppress(OSError):  # without locks each measures
            fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            known = json.loads(path.read_text(encoding="utf-8"))
            Choice(**known["choice"])
            return known | {"width": int(known["width"])}
        found = measure()
        with contextlib.suppress(OSError):
            write_bytes(path, json.dumps(found).encode())
        return found


def _digest(job: Job, device: str) -> str:
    """Of all that a measurement depends on."""
    recipe = job.recipe
    about = {
        "kind": job.kind_of(device), "machine": _processor(), "network": asdict(job.network),
        "recipe": [recipe.batch_size, recipe.precision, recipe.optimizer, recipe.average, str(recipe.augmentation)],
        "versions": [version(name) for name in ("losstune", "torch", "numpy")], "width": job.width,
        "threads": torch.get_num_threads(), "kernels": os.environ.get("OPENBLAS_CORETYPE"),
    }  # fmt: skip
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]


def _processor() -> list[Any]:
    """The model of the processor, and how many cores there are."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line for line in lines if line.startswith("model name")), model)
    return [model, os.cpu_count()]
