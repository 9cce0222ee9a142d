"""Any network of all members by torch.vmap: a member's forward pass, mapped over parameters, statistics and inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from losstune.trainables.backends.backend import Build, ByAutograd, is_random
from losstune.trainables.rows import Layout, Named, Rows, leaf


class Vmapped(ByAutograd):
    """The network as its author wrote it, once for all members."""

    kind = "vmap"
    exact = False  # mapped convolutions become grouped ones, in another kernel for one member than for more
    order = "plain"  # vmap moves the members' dimension about, which leaves no layout to keep

    def __init__(self, network: nn.Module, build: Build, layout: Layout, members: int, dtype: torch.dtype):
        super().__init__(network, build, layout, members, dtype)
        self.module = build()
        self.statistics = {name: buffer.expand(members, *buffer.shape).clone()
                           for name, buffer in self.module.named_buffers()}  # fmt: skip
        self.leaves: Named = {}

    @classmethod
    def can_run(cls, network: nn.Module) -> bool:
        """Networks that draw no random numbers: under vmap a draw would depend on the member's place.

        Whether vmap can map all that a network does is seen when it is tried.
        """
        return bool(list(network.parameters())) and not is_random(network)

    def bind(self, rows: Rows) -> None:
        self.rows = rows
        frozen = {name for name, p in self.module.named_parameters() if not p.requires_grad}
        self.leaves = {name: leaf(self.layout, rows, name).requires_grad_(name not in frozen)
                       for name, _ in self.module.named_parameters()}  # fmt: skip
        self.statistics = {name: value.to(rows.parameter.device) for name, value in self.statistics.items()}

    def learned(self) -> list[Tensor]:
        return [value for value in self.leaves.values() if value.requires_grad]

    def forward(self, x: Tensor, training: bool = True) -> Tensor:
        self.module.train(training)

        def member(parameters: Named, statistics: Named, inputs: Tensor) -> Tensor:
            return functional_call(self.module, (parameters, statistics), (inputs,))

        low = self.dtype is not torch.float32
        with torch.set_grad_enabled(training), torch.autocast(x.device.type, self.dtype, enabled=low):
            self.features = torch.vmap(member)(self.leaves, self.statistics, x)
        return self.features.detach().float()

    def unbind(self) -> None:
        self.rows, self.leaves = None, {}

    def buffers(self) -> list[Named]:
        return [{name: value[member] for name, value in self.statistics.items()} for member in range(self.members)]
