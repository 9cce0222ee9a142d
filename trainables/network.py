"""The network of a study, as every member begins with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Network:
    """What every member trains: name, the text of the user's file if any, input shape, classes, decay of norms."""

    spec: str
    input_shape: tuple[int, ...]
    num_classes: int
    decay_norm: bool = False
    source: str | None = None

    def build(self) -> tuple[nn.Module, int]:
        """A fresh backbone, to penultimate features, and their number."""
        # torch, which who only hands a network on need not load.
        from losstune.trainables.architectures.networks import build_network, split_final_layer

        module = build_network(self.spec, self.input_shape, self.num_classes, self.source)
        return split_final_layer(module, self.num_classes)
