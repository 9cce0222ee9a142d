"""Networks built from their names, and the cut between a backbone and its final layer."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import nn

from losstune.spaces.errors import InputError
from losstune.trainables.architectures import ARCHITECTURES, LIBRARIES, check_architecture
from losstune.trainables.user_files import call, explain, load_function

_checked: set[tuple] = set()  # what has passed its check in this process: every member builds its network anew


def build_network(spec: str, input_shape: tuple[int, ...], num_classes: int, source: str | None = None) -> nn.Module:
    """A network from inputs (B, *input_shape) to logits (B, K), its initial weights from torch's global generator.

    spec: a name in ARCHITECTURES, a library's as in LIBRARIES, or "FILE.py:FUNCTION" with the file's text as source;
    the function is called as FUNCTION(input_shape, num_classes). InputError when spec, input_shape and num_classes do
    not fit together.
    """
    check_architecture(spec, input_shape)
    shape, (library, _, name) = tuple(input_shape), spec.partition(":")
    if spec in ARCHITECTURES:
        architecture = ARCHITECTURES[spec]
        return _function(architecture.builder)(shape, num_classes, **architecture.arguments)
    if library in LIBRARIES:
        network = _function(LIBRARIES[library].builder)(name, shape, num_classes)
    else:
        network = _users_network(spec, source, shape, num_classes)
    if (spec, source, shape, num_classes) not in _checked:
        check_network(network, shape, num_classes, f"network: {spec}", file=spec.rpartition(":")[0])
        _checked.add((spec, source, shape, num_classes))
    return network


def _function(reference: str) -> Callable[..., nn.Module]:
    module_name, _, function_name = reference.partition(":")
    return getattr(importlib.import_module(module_name), function_name)


def _users_network(spec: str, source: str | None, input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    if source is None:
        raise InputError(f"network: {spec}: the text of the file was not given; allowed: the file's text as source")
    network = call(load_function(spec, source, "network"), spec, "network", input_shape, num_classes)
    if not isinstance(network, nn.Module):
        raise InputError(f"network: {spec} returned {type(network).__name__}; allowed: a torch.nn.Module")
    return network


def split_final_layer(
    module: nn.Module, num_classes: int, input_shape: tuple[int, ...] | None = None
) -> tuple[nn.Module, int]:
    """The backbone, from inputs to penultimate features (B, d), and d.

    The final layer is the last nn.Linear with num_classes outputs, in order of registration; nn.Identity takes its
    place, in module itself. With input_shape a forward pass checks that it is the network's last operation and takes
    features (B, d). InputError when there is no such layer. (What build_network returns needs no check: its own
    networks are tested, all others were checked there.)
    """
    if input_shape is not None:
        check_network(module, input_shape, num_classes, "network")
    name, final = _final_layer(module, num_classes, "network")
    if not name:
        return nn.Identity(), final.in_features
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, nn.Identity())
    return module, final.in_features


def check_network(
    module: nn.Module, input_shape: tuple[int, ...], num_classes: int, where: str, file: str = ""
) -> None:
    """Two forward passes of a random batch of 2, as in evaluation and as in training; InputError unless both end in the
    final layer. Modes, buffers and random state stay as they are.

    file: the user's file, so that an error can name its line.
    """
    _, final = _final_layer(module, num_classes, where)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    hook = final.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
    was_training = {part: part.training for part in module.modules()}
    try:
        for training in (False, True):
            seen.clear()
            logits = _pass(module.train(training), input_shape)
            _check_pass(seen, logits, num_classes, where if not training else f"{where} in training")
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{where}: a batch of shape {(2, *input_shape)} does not pass: {explain(error, file)}; "
                         f"allowed: a network from (B, {', '.join(map(str, input_shape))}) to (B, {num_classes})"
                         ) from error  # fmt: skip
    finally:
        hook.remove()
        for part, training in was_training.items():
            part.training = training


def _pass(module: nn.Module, input_shape: tuple[int, ...]) -> object:
    buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        # Not zeros: what follows the final layer, a tanh or a factor, would not show on its zero outputs.
        x = torch.randn(2, *input_shape, generator=torch.Generator().manual_seed(0))
        return torch.func.functional_call(module, buffers, (x,))


def _final_layer(module: nn.Module, num_classes: int, where: str) -> tuple[str, nn.Linear]:
    found = [(name, part) for name, part in module.named_modules()
             if isinstance(part, nn.Linear) and part.out_features == num_classes]  # fmt: skip
    if not found:
        raise InputError(f"{where}: there is no final layer; its final layer must be an nn.Linear with "
                         f"{num_classes} outputs")  # fmt: skip
    return found[-1]


def _check_pass(seen: list[tuple[torch.Tensor, torch.Tensor]], logits: object, num_classes: int, where: str) -> None:
    rule = f"allowed: its final layer must be an nn.Linear with {num_classes} outputs, used once, as the last operation"
    if len(seen) != 1:
        raise InputError(f"{where}: its final layer is used {len(seen)} times in a forward pass; {rule}")
    features, output = seen[0]
    if features.dim() != 2 or features.shape[0] != 2:
        raise InputError(f"{where}: its final layer takes features of shape {tuple(features.shape)} for a batch of 2; "
                         f"allowed: (B, d), flattened or pooled")  # fmt: skip
    if not isinstance(logits, torch.Tensor) or logits.shape != output.shape or not torch.equal(logits, output):
        raise InputError(f"{where}: what it returns is not the output of its final layer; {rule}")
