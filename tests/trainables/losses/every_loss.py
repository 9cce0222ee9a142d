"""Every loss behind one call, with hyperparameters from the tables: what the tests over all losses share."""

import copy
import zlib

import numpy as np
import torch

from losstune import make_head, make_loss
from losstune.spaces import SPACES, Choice, Option, Real
from losstune.trainables.losses import LOSSES

NEEDS_HEAD = {
    "dropout", "final_layer_l2", "cosine_softmax", "mmc", "large_margin_softmax", "gaussian_mixture",
    "super_symmetric", "center",
}  # fmt: skip
CRITERIA = [name for name in LOSSES if name not in NEEDS_HEAD]
HEADS = [name for name in LOSSES if name in NEEDS_HEAD]
COMBINATIONS = [
    "label_smoothing+dropout", "sigmoid+cosine_softmax", "sigmoid+logit_norm", "cosine_softmax+logit_penalty",
    "margin_softmax+large_margin", "large_margin+center", "squared_error+final_layer_l2", "focal+large_margin",
    "ce_el+logit_penalty", "label_smoothing+cosine_softmax+logit_penalty", "margin_softmax+cosine_softmax",
]  # fmt: skip
EVERY = [*LOSSES, *COMBINATIONS]

DESIGN = """softmax label_smoothing dropout final_layer_l2 logit_penalty logit_norm cosine_softmax sigmoid squared_error
focal expectation ce_el ce_matched mae gce tamed_ce mpce cot mmc large_margin hinge crammer_singer margin_softmax
large_margin_softmax gaussian_mixture super_symmetric center quadratic ccql""".split()

# All of these are functions of differences of logits, whatever the hyperparameters.
IGNORES_A_SHIFT = {
    "softmax", "label_smoothing", "focal", "expectation", "ce_el", "ce_matched", "mae", "gce", "tamed_ce", "mpce",
    "cot", "large_margin", "hinge", "crammer_singer", "margin_softmax", "margin_softmax+large_margin",
    "focal+large_margin",
}  # fmt: skip


def members(name):
    return name.split("+")


def of_logits(name):
    """Whether the loss is a function of the logits alone, so that make_loss has it."""
    return not NEEDS_HEAD & set(members(name))


def hyperparameters_of(name):
    """Hyperparameter by name; in a combination a name that two losses share is qualified by the loss."""
    own = {loss: SPACES[loss].hyperparameters for loss in members(name)}
    every = [key for table in own.values() for key in table]
    return {
        key if every.count(key) == 1 else f"{loss}_{key}": hyperparameter
        for loss, table in own.items()
        for key, hyperparameter in table.items()
    }


def ends(hyperparameter):
    """Both ends of the searched range, the closed legal bounds that are finite, and every choice."""
    if isinstance(hyperparameter, Option):
        return [False, True]
    if isinstance(hyperparameter, Choice):
        return [*hyperparameter.choices, *(hyperparameter.numbers or ())]
    low, high, low_open, high_open = hyperparameter.legal
    values = [hyperparameter.low, hyperparameter.high]
    values += [low] if np.isfinite(low) and not low_open else []
    values += [high] if np.isfinite(high) and not high_open else []
    return sorted(set(values))


def settings_at_the_ends(name):
    """The defaults, one hyperparameter after the other at each end, all low, all high."""
    table = hyperparameters_of(name)
    chosen = [{}]
    chosen += [{key: value} for key, p in table.items() for value in ends(p)]
    chosen += [{key: pick(p.low, p.high) for key, p in table.items() if isinstance(p, Real)} for pick in (min, max)]
    return [given for i, given in enumerate(chosen) if given not in chosen[:i]]


def generator(*key):
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def fill(head, *key, spread=1.0):
    """Random numbers in everything that a head learns or keeps; mmc's fixed centers stay."""
    rng = generator("fill", *key)
    with torch.no_grad():
        for name, tensor in sorted(head.state_dict().items()):
            if name in ("weight", "bias", "means", "log_variances", "centers") and not is_fixed(head, name):
                tensor.copy_(torch.tensor(rng.normal(size=tensor.shape) * (0.5 if name == "log_variances" else spread)))
    return head


def is_fixed(head, name):
    """Whether a tensor is neither learned nor moved: mmc's means."""
    return name == "means" and name not in dict(head.named_parameters())


def in_double(make):
    """What make() makes, in double precision from the start: fixed numbers have all their digits."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return make().double()
    finally:
        torch.set_default_dtype(before)


class Subject:
    """A loss, called with its inputs, targets and progress: logits (B, K) or, behind a head, features (B, d).

    second=True is the second pass of a loss that has two.
    """

    def __init__(self, call, head=None, second=False):
        self.call, self.head, self.second = call, head, second

    @classmethod
    def of(cls, name, K, given, d=None, second=False, dtype=torch.float64, train=False):
        """d=None: by make_loss; else by make_head, its numbers random."""
        if d is None:
            return cls(make_loss(name, num_classes=K, **given), second=second)
        head = fill(in_double(lambda: make_head(name, in_features=d, num_classes=K, **given)), name, K, d)
        return cls(head, head.to(dtype).train(train), second=second)

    def __call__(self, inputs, targets, progress=0.3):
        if self.second:
            return self.call.second_pass(inputs, targets)
        return (self.head.loss if self.head is not None else self.call)(inputs, targets, progress=progress)

    def copied(self):
        """The same with a head of its own, in the same state."""
        if self.head is None:
            return self
        head = copy.deepcopy(self.head)
        return Subject(head, head, self.second)

    def permuted(self, order):
        """The same with its classes in another order."""
        if self.head is None:
            return self
        other = self.copied()
        with torch.no_grad():
            for name, tensor in other.head.state_dict().items():
                if name in ("weight", "bias", "means", "log_variances", "centers"):
                    tensor.copy_(tensor[order].clone())
        return other

    def values(self, inputs, targets, progress=0.3):
        return self(inputs, targets, progress).detach()

    def with_gradient(self, inputs, targets, progress=0.3):
        """Loss per example and the gradient of each with respect to its own inputs."""
        inputs = inputs.detach().clone().requires_grad_()
        losses = self(inputs, targets, progress)
        return losses.detach(), torch.autograd.grad(losses.sum(), inputs)[0]

    def with_gradients(self, inputs, targets, weights, progress=0.3):
        """Loss per example, and by name the gradients of their weighted sum, head parameters included."""
        inputs = inputs.detach().clone().requires_grad_()
        over = {"inputs": inputs, **(dict(self.head.named_parameters()) if self.head is not None else {})}
        losses = self(inputs, targets, progress)
        gradients = torch.autograd.grad((weights * losses).sum(), list(over.values()), materialize_grads=True)
        return losses.detach(), dict(zip(over, gradients, strict=True))


def passes(name):
    """second=False, and True where the loss has a second pass."""
    return [False, True] if "cot" in members(name) else [False]


def near(got, want, relative=1e-10, absolute=1e-13, what=""):
    """Elementwise: |got - want| <= relative |want| + absolute; finite, and of one shape."""
    got, want = torch.as_tensor(got).detach().double(), torch.as_tensor(want).detach().double()
    assert got.shape == want.shape, f"{what}: shapes {tuple(got.shape)} and {tuple(want.shape)}"
    error = (got - want).abs() - relative * want.abs()
    assert bool((error <= absolute).all()), f"{what}: off by {(got - want).abs().max():.3e}: {got} is not {want}"


def draws(K, scale=1.0, B=9, *key):
    """Logits (B, K), targets and per-example weights, every class a target where B allows it."""
    rng = generator("draws", K, scale, *key)
    targets = np.concatenate([np.arange(min(B, K)), rng.integers(0, K, size=max(0, B - K))])
    arrays = rng.normal(size=(B, K)) * scale, targets, rng.uniform(0.5, 2.0, size=B)
    return [torch.tensor(a) for a in arrays]


def draws_of_features(K, d, scale=1.0, B=9, *key):
    """Features (B, d), targets and per-example weights."""
    _, targets, weights = draws(K, scale, B, d, *key)
    features = torch.tensor(generator("features", K, d, scale, *key).normal(size=(B, d)) * scale)
    return features, targets, weights
