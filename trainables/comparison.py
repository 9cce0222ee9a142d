"""Whether a backend computes the network that its author wrote, and each member apart from the others: by trying."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from losstune.trainables.backends import BACKENDS, Backend
from losstune.trainables.network import Network
from losstune.trainables.rows import Layout, Named, Rows

# Of the largest value, between two backends in float32. Gradients through batch norm over few values want so much; what
# mixes members shows in bits besides.
TOLERANCE = {"features": 1e-2, "gradients": 5e-2, "statistics": 1e-2}
MEMBERS, BATCH = 3, 8


def difference(kind: str, network: Network, device: torch.device) -> str | None:
    """What a backend computes otherwise than the plain network, as a sentence; None where it is the same.

    In float32, on random inputs and weights, since what is zero at the start hides what is done to it: features in
    training and in evaluation, gradients and running statistics; and, with the neighbours changed, whether a member
    stays as it was.
    """
    generator = torch.Generator().manual_seed(0)
    example, features = network.build()
    layout = Layout.of_backbone(example, network.decay_norm)
    x = torch.randn(MEMBERS, BATCH, *network.input_shape, generator=generator)
    rows = [0.2 * torch.randn(MEMBERS, layout.width, generator=generator) for _ in range(2)]
    upstream = torch.randn(MEMBERS, BATCH, features, generator=generator)
    alone = [_computed("sequential", network, layout, *(v[m : m + 1] for v in (x, rows[0], upstream)), device)
             for m in range(MEMBERS)]  # fmt: skip
    together = _computed(kind, network, layout, x, rows[0], upstream, device)
    expected = {name: torch.cat([own[name] for own in alone]) for name in alone[0]}
    if expected.keys() != together.keys():
        return "it keeps other statistics"
    steepest = max((float(v.abs().max()) for name, v in expected.items() if name.startswith("gradients")), default=0.0)
    for name, value in expected.items():
        # A bias before batch norm has a gradient that is nothing but rounding.
        least = 1e-3 * steepest if name.startswith("gradients") else 1e-6
        off = float((together[name] - value).abs().max()) / max(float(value.abs().max()), least, 1e-12)
        if not off <= TOLERANCE[name.split()[0]]:
            return f"another network is computed: {name} differ by {off:.2g} of the largest"
    changed = [torch.cat([first[:1], other[1:]]) for first, other in ((x, -x), (rows[0], rows[1]))]
    beside = _computed(kind, network, layout, changed[0], changed[1], upstream, device)
    for name, value in together.items():
        pair = beside[name][0], value[0]
        if not (torch.equal(*pair) if device.type == "cpu" else torch.allclose(*pair, rtol=1e-3, atol=1e-4)):
            return f"members are mixed: {name} of one change with its neighbours"
    return None


def _computed(
    kind: str, network: Network, layout: Layout, x: Tensor, start: Tensor, upstream: Tensor, device: torch.device
) -> Named:
    """Features in training and evaluation, gradients and statistics of members, each (n, ...), on the CPU."""

    def build() -> nn.Module:
        return network.build()[0].to(device)

    backend: Backend = BACKENDS[kind](build(), build, layout, len(x), torch.float32)
    backend.order = BACKENDS[kind].order_for(build(), network.input_shape)
    # Each backend's rows have an order of their own: the same parameters by name.
    named = [layout.unpack(row, "plain") for row in start]
    parameter = torch.stack([layout.pack(own, backend.order) for own in named]).to(device)
    rows = Rows(parameter, torch.zeros(1, 1, *parameter.shape), torch.zeros(1))
    rows.gradient = torch.zeros_like(parameter)
    backend.bind(rows)
    found = {"features in training": backend.forward(x.to(device), training=True).clone()}
    backend.backward(upstream.to(device))
    gradients = [layout.unpack(row, backend.order) for row in rows.gradient]
    found |= {f"gradients of {name}": torch.stack([own[name] for own in gradients]) for name in layout.entries}
    live = backend.buffers()
    found |= {f"statistics {name}": torch.stack([own[name] for own in live]).float() for name in live[0]}
    found["features in evaluation"] = backend.forward(x.to(device), training=False)
    return {name: value.detach().cpu().clone() for name, value in found.items()}
