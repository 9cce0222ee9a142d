"""Models of other libraries by their names there: torchvision's image classifiers and timm's."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable

from torch import nn

from losstune.spaces.errors import InputError
from losstune.trainables.user_files import explain

# These have auxiliary outputs unless told otherwise.
_OWN_ARGUMENTS = {
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
}


def torchvision_model(name: str, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Torchvision's classifier `name`, its weights drawn anew; InputError when there is none or it cannot be built."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise _unknown("torchvision", name, known, "https://docs.pytorch.org/vision/stable/models.html")
    own = _OWN_ARGUMENTS.get(name, {})
    network = _built("torchvision", name, lambda: models.get_model(name, weights=None, num_classes=num_classes, **own))
    if input_shape[0] != 3:
        _take_channels(network, input_shape[0], f"torchvision:{name}")
    return network


def timm_model(name: str, input_shape: tuple[int, int, int], num_classes: int) -> nn.Module:
    """Timm's model `name`, its weights drawn anew; InputError when timm or the model is missing or cannot be built."""
    try:
        import timm
    except ImportError:
        raise InputError(f"network: timm:{name}: timm is not installed; allowed: pip install timm, "
                         f"or another network") from None  # fmt: skip
    if not timm.is_model(name):
        raise _unknown("timm", name, timm.list_models(), "timm.list_models()")
    make = timm.create_model
    return _built("timm", name, lambda: make(name, pretrained=False, num_classes=num_classes, in_chans=input_shape[0]))


def _unknown(library: str, name: str, known: Iterable[str], where: str) -> InputError:
    close = difflib.get_close_matches(name, known)
    meant = f"; did you mean {library}:{f' or {library}:'.join(close)}?" if close else ""
    return InputError(f"network: {library} has no classifier {name!r}; allowed: those of {where}{meant}")


def _built(library: str, name: str, build: Callable[[], nn.Module]) -> nn.Module:
    try:
        return build()
    except Exception as error:
        raise InputError(f"network: {library}:{name} cannot be built: {explain(error, '')}; "
                         f"allowed: a classifier that takes any number of classes and channels") from error  # fmt: skip


def _take_channels(network: nn.Module, channels: int, spec: str) -> None:
    """Give the network's first convolution another number of input channels: weights normal, as wide as they were."""
    first = next(((name, part) for name, part in network.named_modules() if isinstance(part, nn.Conv2d)), None)
    if first is None or first[1].in_channels != 3 or first[1].groups != 1:
        raise InputError(f"network: {spec} does not begin with a convolution of 3 channels, but an image has "
                         f"{channels}; allowed: images of 3 channels, or another network")  # fmt: skip
    name, old = first
    new = nn.Conv2d(channels, old.out_channels, old.kernel_size, old.stride, old.padding, bias=old.bias is not None)
    nn.init.normal_(new.weight, std=float(old.weight.detach().std()))
    if old.bias is not None:
        new.bias.data.copy_(old.bias.detach())
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, new)
