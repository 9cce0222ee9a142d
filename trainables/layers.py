"""The layers of a network: which of its outputs count as one, their Gram matrices, and how sparse they are."""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

MOST = 20  # layers of a network, the penultimate features among them
FEW = 4  # blocks with parameters: where there are fewer, the largest is opened
BUFFER = 2**28  # bytes of outputs that are held at a time
FEATURES = "features"
_NORMALIZATIONS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
Piece = tuple[int, slice]  # of a layer, by its number, so many columns


@dataclass(frozen=True)
class Layer:
    """An output of a network: of the module at a path, when it is called for the call-th time in a pass, from 0.

    name: path and type of the module with the parameters; the one at the path may be the activation behind it.
    shape: of an example's output.
    """

    name: str
    module: str
    call: int
    shape: tuple[int, ...]

    @property
    def width(self) -> int:
        return math.prod(self.shape)


@torch.no_grad()
def layers_of(network: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> list[Layer]:
    """The layers of a network in the order in which forward(x), x (B, *shape), computes them, the features last.

    A layer is the output of a block, or of a module with parameters between blocks after the normalization and the
    activation that follow it. Blocks are what the network consists of, nn.Sequential and nn.ModuleList opened; where
    that makes fewer than FEW with parameters, as of a network wrapped in another, the largest is opened too. Of more
    than MOST layers so many are taken, evenly spaced. Only tensors (B, ...) of floating-point numbers are layers.
    """
    blocks, outputs = _blocks(network), []

    def seen(path: str, call: int, output: Tensor) -> None:
        if output.is_floating_point() and output.dim() > 1 and len(output) == len(x):
            name = f"{path} {type(blocks[path]).__name__}" if path else FEATURES
            outputs.append((Layer(name, path, call, tuple(output.shape[1:])), output))

    with _watched(network, [*blocks, ""], seen):
        forward(x)
    *outputs, (features, last) = outputs
    found: list[tuple[Layer, Tensor]] = []
    for layer, output in outputs:
        if found and _follows(layer, found[-1][0], blocks):
            found[-1] = replace(layer, name=found[-1][0].name), output
        elif _size(blocks[layer.module]):
            found.append((layer, output))
    if found and found[-1][1].data_ptr() == last.data_ptr() and found[-1][0].width == features.width:
        found.pop()  # the features themselves, or another view of them
    chosen = np.linspace(0, len(found) - 1, min(len(found), MOST - 1)).round().astype(int)
    return [*(found[number][0] for number in chosen), features]


@torch.no_grad()
def gram_matrices(
    network: nn.Module, layers: list[Layer], run: Callable[[], None], n: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Of each layer the upper triangle of its Gram matrix, (m, n (n + 1) / 2), and the share of zeros (m,), float32.

    run: passes n examples through the network, in the same order whenever it is called: as often as it takes to see
    all columns, of which no more than BUFFER bytes are held. The mean over the examples is subtracted first.
    ValueError when a layer is not there for all of them.
    """
    grams = torch.zeros(len(layers), n, n, dtype=torch.float64, device=device)
    zeros = torch.zeros(len(layers), dtype=torch.int64, device=device)
    for pieces in _passes(layers, max(1, BUFFER // (4 * n))):
        for (number, _), held in zip(pieces, _held(network, layers, pieces, run, n, device), strict=True):
            zeros[number] += (held == 0).sum()
            held -= held.mean(0)
            grams[number] += held @ held.T
    widths = torch.tensor([n * layer.width for layer in layers], dtype=torch.float64)
    upper = torch.triu_indices(n, n, device=device)
    return grams[:, upper[0], upper[1]].float().cpu().numpy(), (zeros.cpu() / widths).float().numpy()


def _held(
    network: nn.Module, layers: list[Layer], pieces: list[Piece], run: Callable[[], None], n: int, device: torch.device
) -> list[Tensor]:  # fmt: skip
    """The columns of some layers, (n, columns) float32 each."""
    held = [torch.empty(n, columns.stop - columns.start, device=device) for _, columns in pieces]
    filled = [0] * len(pieces)

    def seen(path: str, call: int, output: Tensor) -> None:
        for place, (number, columns) in enumerate(pieces):
            if (layers[number].module, layers[number].call) == (path, call):
                start, filled[place] = filled[place], filled[place] + len(output)
                held[place][start : filled[place]] = output.flatten(1)[:, columns]

    with _watched(network, [layers[number].module for number, _ in pieces], seen):
        run()
    if set(filled) != {n}:
        raise ValueError("its layers change from batch to batch")
    return held


def _passes(layers: list[Layer], capacity: int) -> Iterator[list[Piece]]:
    """All columns of all layers, so many at a time at most."""
    pieces, room = [], capacity
    for number, layer in enumerate(layers):
        start = 0
        while start < layer.width:
            stop = min(layer.width, start + room)
            pieces.append((number, slice(start, stop)))
            room -= stop - start
            start = stop
            if not room:
                yield pieces
                pieces, room = [], capacity
    if pieces:
        yield pieces


@contextlib.contextmanager
def _watched(network: nn.Module, paths: Iterable[str], seen: Callable[[str, int, Tensor], None]) -> Iterator[None]:
    """seen(path, call, output) whenever a module at one of the paths, "" for the network, has made a tensor."""
    calls: Counter[str] = Counter()

    def hook(path: str) -> Callable:
        def look(_module: nn.Module, _inputs: tuple, output: object) -> None:
            call, calls[path] = calls[path], calls[path] + 1
            if isinstance(output, Tensor):
                seen(path, call, output)

        return look

    handles = [network.register_forward_pre_hook(lambda *_: calls.clear())]
    handles += [network.get_submodule(path).register_forward_hook(hook(path)) for path in dict.fromkeys(paths)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _blocks(network: nn.Module) -> dict[str, nn.Module]:
    """The modules that a network consists of, by their paths."""
    blocks = dict(_opened(network, ""))
    while True:
        sizes = {path: _size(block) for path, block in blocks.items()}
        openable = [path for path, block in blocks.items() if sizes[path] and any(True for _ in block.children())]
        if sum(size > 0 for size in sizes.values()) >= FEW or not openable:
            return blocks
        largest = max(openable, key=sizes.get)
        blocks |= dict(_opened(blocks.pop(largest), f"{largest}."))


def _opened(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    for name, child in module.named_children():
        if isinstance(child, nn.Sequential | nn.ModuleList):
            yield from _opened(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", child


def _follows(layer: Layer, before: Layer, blocks: dict[str, nn.Module]) -> bool:
    """Whether an output is what a normalization or an activation has made of the layer before it."""
    module, source = blocks[layer.module], blocks[before.module]
    if not _size(module):
        return layer.shape == before.shape  # an activation; also dropout, which does nothing in evaluation
    plain = _size(source) and not isinstance(source, _NORMALIZATIONS) and not any(True for _ in source.children())
    return isinstance(module, _NORMALIZATIONS) and bool(plain)


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
