"""How the networks of a chunk are computed: BACKENDS, and which of them can compute a network."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from losstune.spaces import InputError
from losstune.trainables.backends.backend import Backend
from losstune.trainables.backends.batched import Batched
from losstune.trainables.backends.grouped import Grouped
from losstune.trainables.backends.sequential import Sequential
from losstune.trainables.backends.streams import Streams
from losstune.trainables.backends.vmapped import Vmapped

__all__ = ["BACKENDS", "Backend", "Choice", "able", "check_backend", "default_choice"]

BACKENDS: dict[str, type[Backend]] = {kind.kind: kind for kind in (Batched, Grouped, Vmapped, Streams, Sequential)}


@dataclass(frozen=True)
class Choice:
    """A backend by name, how many members it computes together, whether torch.compile makes its kernels, and who
    computes the matrix products of final layers and fully connected networks, see PRODUCTS."""

    kind: str
    together: int
    compiled: bool = False
    products: str = "torch"


def able(network: nn.Module) -> list[str]:
    """The backends that can compute a network, as far as its modules tell."""
    return [kind for kind, backend in BACKENDS.items() if backend.can_run(network)]


def check_backend(network: nn.Module, name: str, kind: str, compiled: bool, device: str | None = None) -> None:
    """InputError when a backend, "auto" for any, cannot compute the network called name, or has nothing to compile.

    device: where a study's trials would be computed; there a backend must also keep what it promises of bits.
    """
    kinds = [able_ for able_ in able(network) if device is None or device in BACKENDS[able_].devices]
    if kind in able(network) and kind not in kinds:
        raise InputError(f"resources.backend: {kind} is for a GPU; allowed: auto, {', '.join(kinds)}")
    if device == "cpu":
        broken = [able_ for able_ in kinds if BACKENDS[able_].exact and not BACKENDS[able_].is_exact(network)]
        kinds = [able_ for able_ in kinds if able_ not in broken]
        if kind in broken:
            raise InputError(f"resources.backend: on this CPU {kind} would compute members of {name} otherwise in "
                             f"other company; allowed: auto, {', '.join(kinds)}")  # fmt: skip
    if kind != "auto" and kind not in kinds:
        raise InputError(f"resources.backend: {kind} cannot compute {name}; allowed: auto, {', '.join(kinds)}")
    compilable = [able_ for able_ in kinds if BACKENDS[able_].compile is not Backend.compile]
    if compiled and kind not in ("auto", *compilable):
        raise InputError(f"resources.compile: {kind} networks have nothing to compile; allowed: false, or "
                         f"resources.backend auto, {', '.join(compilable)}")  # fmt: skip


def default_choice(network: nn.Module) -> Choice:
    """What needs no measurement: batched products for fully connected networks, member after member for the rest."""
    return Choice("batched", 16) if Batched.can_run(network) else Choice("sequential", 1)
