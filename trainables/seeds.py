"""Every derived seed: one hash of what the draw is for, never of the loss, so that losses are compared paired."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive(*parts: str | int) -> int:
    """A seed in [0, 2^63) from what names the draw, for example (study, "search", 2, "order", epoch)."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(*parts: str | int) -> torch.Generator:
    """A CPU generator with the derived seed: the same draws on every device."""
    import torch  # which who only derives seeds need not load

    return torch.Generator().manual_seed(derive(*parts))
