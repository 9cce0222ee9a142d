"""A member's state: at its start, as plain data that any stack can take up, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from losstune.trainables.chunk import Member
from losstune.trainables.losses.combine import check_fits, loss_of
from losstune.trainables.network import Network
from losstune.trainables.optimizers import OPTIMIZERS
from losstune.trainables.recipe import Recipe
from losstune.trainables.rows import HEAD, Layout, Named
from losstune.trainables.seeds import derive
from losstune.trainables.trial import Trial

Pack, Unpack = Callable[[Named], Tensor], Callable[[Tensor], Named]


class States:
    """The states of members of one study and network: from seeds or plain data to rows, and back.

    example: a network as built, with features of in_features dimensions. order: of the parameters in a row.
    """

    def __init__(self, study: str, network: Network, recipe: Recipe, example: nn.Module, in_features: int,
                 order: str):  # fmt: skip
        self.study, self.network, self.recipe = study, network, recipe
        self.in_features, self.order = in_features, order
        self.layout = Layout.of_backbone(example, network.decay_norm)
        self.layout_of = lru_cache(maxsize=None)(self._layout_of)
        self._initial = lru_cache(maxsize=64 if self.layout.width < 1e6 else 4)(self._initialize)

    def _layout_of(self, loss: str) -> Layout:
        """The layout of a loss's rows: the network, then the loss's final layer and state."""
        check_fits(loss, self.in_features, self.network.num_classes)
        head = loss_of(loss).parameters
        shapes = {HEAD + key: p.shape(self.network.num_classes, self.in_features) for key, p in head.items()}
        biases = {"bias"} if self.network.decay_norm else set()  # where everything of the network decays
        return self.layout.extended(
            shapes, {HEAD + key: (p.decays or key in biases) and p.learned for key, p in head.items()}
        )

    def start(self, trial: Trial) -> list[Member]:
        """A trial's members before their first step."""
        pack = partial(self.layout_of(trial.loss).pack, order=self.order)
        kept = loss_of(trial.loss).passes, OPTIMIZERS[self.recipe.optimizer].slots
        averages, members = self.recipe.average is not None, []
        for seed in trial.seeds:
            named, buffers = self._start(trial, seed)
            members.append(started(trial, seed, pack(named), buffers, kept, averages))
        return members

    def restore(self, trial: Trial, state: dict) -> list[Member]:
        """A trial's members as `plain` gave them."""
        pack = partial(self.layout_of(trial.loss).pack, order=self.order)
        return [restored(trial, seed, state["epoch"], plain, pack)
                for seed, plain in zip(trial.seeds, state["members"], strict=True)]  # fmt: skip

    def plain(self, members: list[Member]) -> dict[str, Any]:
        """A trial's members as plain data, see `Stack.state`."""
        unpack = partial(self.layout_of(members[0].trial.loss).unpack, order=self.order)
        return {"epoch": members[0].epoch, "members": [saved(member, unpack) for member in members]}

    def _start(self, trial: Trial, seed: int) -> tuple[Named, Named]:
        """A member's parameters and buffers at the start: the same draws for every loss."""
        named, (weight, bias), buffers = self._initial(trial.phase, seed)
        head = loss_of(trial.loss).start(weight, bias, trial.hyperparameters)
        return {**named, **{HEAD + key: value for key, value in head.items()}}, buffers

    def _initialize(self, phase: str, seed: int) -> tuple[Named, tuple[Tensor, Tensor], Named]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.study, phase, seed, "weights"))
            backbone, in_features = self.network.build()
            final = nn.Linear(in_features, self.network.num_classes)
        named = {name: p.detach() for name, p in backbone.named_parameters()}
        buffers = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
        return named, (final.weight.detach(), final.bias.detach()), buffers


def started(trial: Trial, seed: int, row: Tensor, buffers: Named, kept: tuple[int, int], average: bool) -> Member:
    """A member before its first step. row (P,); kept: passes of a step, and slots of the optimizer."""
    state = torch.zeros(*kept, len(row))
    averages = (row.clone(), _copied(buffers)) if average else (None, {})
    return Member(trial, seed, 0, row, state, averages[0], _copied(buffers), averages[1])


def saved(member: Member, unpack: Unpack) -> dict[str, Any]:
    """A member as plain data, copied to the CPU."""
    plain: dict[str, Any] = {
        "parameters": unpack(member.parameter),
        "optimizer": [[unpack(slot) for slot in kept] for kept in member.state],
        "buffers": _copied(member.buffers),
    }
    if member.step:
        plain |= {"step": member.step, "total": member.total}
    if member.average is not None:
        plain |= {"average": unpack(member.average), "average_buffers": _copied(member.average_buffers)}
    return plain


def restored(trial: Trial, seed: int, epoch: int, plain: Mapping[str, Any], pack: Pack) -> Member:
    """What saved gave, as a member again."""
    # Before there were more optimizers than one, a state had a momentum, and a second one where a step has two passes.
    kept = plain.get("optimizer") or [[plain[key]] for key in ("momentum", "second_momentum") if key in plain]
    state = torch.stack([torch.stack([pack(slot) for slot in slots]) for slots in kept])
    average = pack(plain["average"]) if "average" in plain else None
    buffers = _copied(plain["buffers"])
    return Member(trial, seed, epoch, pack(plain["parameters"]), state, average, buffers,
                  _copied(plain.get("average_buffers", {})), plain.get("step", 0), plain.get("total", 0.0))  # fmt: skip


def evaluated(plain: Mapping[str, Any]) -> dict[str, Named]:
    """Of what saved gave, the "parameters" and "buffers" that a member is evaluated by: averages where there are."""
    return {"parameters": plain.get("average", plain["parameters"]),
            "buffers": plain.get("average_buffers", plain["buffers"])}  # fmt: skip


@torch.no_grad()
def set_weights(network: nn.Module, parameters: Named, buffers: Named) -> None:
    """Give a network the parameters and buffers of these names; others that there are, of a head, stay unused."""
    # By name rather than load_state_dict: tied parameters have one name here, and every buffer is kept.
    for name, parameter in network.named_parameters():
        parameter.copy_(parameters[name])
    for name, buffer in network.named_buffers():
        buffer.copy_(buffers[name])


def _copied(named: Named) -> Named:
    return {name: value.cpu().clone() for name, value in named.items()}
