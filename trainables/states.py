"""A member's state: at its start, as plain data that any stack can take up, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from losstune.trainables.chunk import Member
from losstune.trainables.rows import Named
from losstune.trainables.trial import Trial

Pack, Unpack = Callable[[Named], Tensor], Callable[[Tensor], Named]


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
