"""What a backend is: how the networks of a chunk's members are computed, forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from losstune.trainables.products import Products, TorchProducts
from losstune.trainables.rows import Layout, Named, Rows

Build = Callable[[], nn.Module]


class Backend:
    """Networks of n members, bound to the rows of their parameters.

    forward keeps what backward needs; backward leaves every gradient in the rows' gradient, where nothing need be
    cleared before. Features are detached: the final layers and losses are computed elsewhere.

    kind: its name. order: how parameters lie in the rows, see Layout.view. products: who computes matrix products.
    exact: whether a member's numbers are the same bit for bit in any company, on a CPU with one thread. together: how
    many members it can take; None: any number. devices: where it is of use.
    """

    kind: ClassVar[str]
    order: str = "channels_last"
    products: Products = TorchProducts
    exact: ClassVar[bool] = True
    devices: ClassVar[tuple[str, ...]] = ("cpu", "cuda")
    together: ClassVar[int | None] = None

    def __init__(self, network: nn.Module, build: Build, layout: Layout, members: int, dtype: torch.dtype):
        """network: an example of what build makes, for its structure. dtype: of the network's arithmetic."""
        self.layout, self.members, self.dtype = layout, members, dtype

    @classmethod
    def can_run(cls, network: nn.Module) -> bool:
        """Whether the network can be computed this way, judged by its modules."""
        raise NotImplementedError

    @classmethod
    def is_exact(cls, network: nn.Module) -> bool:
        """Whether that holds for a network."""
        return cls.exact

    def compile(self) -> None:
        """Let torch.compile make the network's kernels, once per shape. Bits then depend on the shape."""
        raise NotImplementedError(f"{self.kind} networks have nothing to compile")

    @classmethod
    def order_for(cls, network: nn.Module, input_shape: tuple[int, ...]) -> str:
        """How a network's parameters lie in the rows."""
        return cls.order

    def bind(self, rows: Rows) -> None:
        """Make the networks' parameters those of the rows (n, P)."""
        raise NotImplementedError

    def unbind(self) -> None:
        """Let go of the rows, which would otherwise live as long as the backend."""
        raise NotImplementedError

    def forget(self) -> None:
        """Let go of what the last forward has kept for backward."""
        raise NotImplementedError

    def forward(self, x: Tensor, training: bool = True) -> Tensor:
        """Inputs (n, B, *shape) to penultimate features (n, B, d) in float32, detached."""
        raise NotImplementedError

    def backward(self, gradient: Tensor) -> None:
        """The gradient (n, B, d) by the features of the last forward, to the rows' gradient; it may be overwritten."""
        raise NotImplementedError

    def buffers(self) -> list[Named]:
        """Each member's running statistics by name, as they are in use: views or tensors, not copies."""
        return [{} for _ in range(self.members)]


class ByAutograd(Backend):
    """A backend whose forward leaves its features (n, B, d) with their graph, for autograd to go back through."""

    rows: Rows | None = None
    features: Tensor | None = None

    def learned(self) -> list[Tensor]:
        """What is differentiated by; the grad of each is its place in the rows' gradient."""
        raise NotImplementedError

    def backward(self, gradient: Tensor) -> None:
        gradient = gradient.to(self.features.dtype)
        if self.features.requires_grad and gradient.is_cuda:
            self._backward_in_few_kernels(gradient)
        elif self.features.requires_grad:  # not where everything is the final layer
            self.rows.gradient[:, : self.layout.width].zero_()
            # A scalar's backward: that of a tensor, with a gradient, makes torch import sympy, half a second of a lane.
            with torch.enable_grad():
                total = (self.features * gradient).sum()
            total.backward()
        self.forget()

    def _backward_in_few_kernels(self, gradient: Tensor) -> None:
        """Gradients as autograd makes them, brought to their places together: clearing and adding are two kernels each.

        Places of what is frozen are not written; they are zero from the start. torch.autograd.grad would do the same,
        but not through torch.utils.checkpoint's reentrant kind.
        """
        learned = self.learned()
        places = [value.grad for value in learned]
        for value in learned:
            value.grad = None
        try:
            torch.autograd.backward(self.features, gradient)
            found = [value.grad for value in learned]
        finally:
            for value, place in zip(learned, places, strict=True):
                value.grad = place
        _put(found, places)

    def forget(self) -> None:
        self.features = None


def _put(values: list[Tensor | None], places: list[Tensor]) -> None:
    """Write values to their places, zeros where there is none: those that lie in memory alike in one kernel."""
    alike: list[tuple[Tensor, Tensor]] = []
    for value, place in zip(values, places, strict=True):
        if value is None:
            place.zero_()
        elif value.stride() == place.stride():
            alike.append((place, value))
        else:
            place.copy_(value)
    if alike:
        torch._foreach_copy_(*map(list, zip(*alike, strict=True)))


def is_random(network: nn.Module) -> bool:
    """Whether a network may draw random numbers of its own in training: dropout, stochastic depth and the like."""
    return any("drop" in type(part).__name__.lower() or "stochastic" in type(part).__name__.lower()
               for part in network.modules())  # fmt: skip


def ties_parameters(network: nn.Module) -> bool:
    """Whether a parameter has more than one name."""
    return len(list(network.named_parameters(remove_duplicate=False))) > len(list(network.parameters()))


def has_hooks(module: nn.Module) -> bool:
    """Whether a module computes more than its class says."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)
