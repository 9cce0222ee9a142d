"""Two passes over a member's penultimate features: sums, means and scatter of what losstune.analysis measures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from losstune.spaces import InputError

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]
ROUNDING = 1e-12  # differences smaller than this share of what is subtracted are rounding, not signal


@torch.no_grad()
def recorded(
    batches: Batches, classes: int, weight: Tensor | None, bias: Tensor | None, centers: Tensor | None
) -> dict[str, np.ndarray]:
    """The fields of FeatureStatistics; what is said of feature_statistics holds."""
    first = _Means(batches, classes)
    layer = None if weight is None else _Linear(weight, bias, first)
    second = _Spread(batches, first, _Centers(centers, first), layer)
    return {name: value.cpu().numpy() for name, value in _record(first, second, layer).items()}


def _record(first: _Means, second: _Spread, layer: _Linear | None) -> dict[str, Tensor]:
    shares = (first.counts.double() / first.total).unsqueeze(1)  # of integers torch makes float32
    offsets = first.offsets.nan_to_num()
    covariance = second.scatter + offsets.T @ (shares * offsets)
    moment = covariance + torch.outer(first.mean, first.mean)
    if not moment.isfinite().all():
        raise InputError("features: too large to be squared in double precision")
    upper = torch.triu_indices(*moment.shape)
    units = [first.units.record(first.counts), second.units.record(first.counts)]
    found = {
        "counts": first.counts, "mean": first.mean, "class_offsets": first.offsets,
        "within_squares": second.squares / first.counts, "within_scatter": second.scatter[upper[0], upper[1]],
        "singular_values": _singular_values(moment, first.total),
        "centered_singular_values": _singular_values(covariance, first.total),
        **{name: torch.stack([unit[name] for unit in units]) for name in units[0]},
        "nearest_right": second.right,
    }  # fmt: skip
    if layer is not None:
        found |= {"weight": layer.weight, "nearest_agrees": second.agrees, "hardness_rows": layer.rows,
                  "hardness": layer.hardness / layer.rows}  # fmt: skip
    return found


def _singular_values(moment: Tensor, total: int) -> Tensor:
    """Of a matrix (N, d) over sqrt(N), from its second moment (d, d)."""
    values = torch.linalg.eigvalsh(moment).flip(0)[: min(total, len(moment))]
    rounding = len(moment) * torch.finfo(values.dtype).eps * values[0].abs()
    return values.where(values > rounding, 0).sqrt()


def _checked(batches: Iterable[tuple[Tensor, Tensor]], classes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches in float64 and int64, on the features' device."""
    width = None
    for features, targets in batches:
        width = features.shape[-1] if width is None else width
        if features.ndim != 2 or features.shape[1] != width or targets.shape != features.shape[:1]:
            raise InputError(f"features: shape {tuple(features.shape)} with targets {tuple(targets.shape)}; allowed: "
                             f"(B, {width}) with (B,)")  # fmt: skip
        x = features.detach().double()
        y = targets.detach().to(x.device).long()
        if not ((y >= 0) & (y < classes)).all():
            raise InputError(f"targets: not all lie in [0, {classes})")
        if not x.isfinite().all():
            raise InputError("features: not all are finite numbers")
        yield x, y


class _Units:
    """Sums of unit vectors by class."""

    def __init__(self, sums: Tensor):
        self.sums = sums.new_zeros(sums.shape)
        self.rows = sums.new_zeros(len(sums))

    def add(self, x: Tensor, y: Tensor) -> None:
        norms = x.norm(dim=1, keepdim=True)
        self.sums.index_add_(0, y, (x / norms).where(norms > 0, 0))
        self.rows.index_add_(0, y, (norms.squeeze(1) > 0).double())

    def record(self, counts: Tensor) -> dict[str, Tensor]:
        means = self.sums / counts.unsqueeze(1)
        return {"unit_rows": self.rows.long(), "unit_squares": means.square().sum(1),
                "unit_balanced": means[counts > 0].mean(0).square().sum(),
                "unit_pooled": (self.sums.sum(0) / counts.sum()).square().sum()}  # fmt: skip


class _Means:
    """The first pass: how many examples the classes have, and their means."""

    def __init__(self, batches: Batches, classes: int):
        sums = counts = None
        for x, y in _checked(batches(), classes):
            if sums is None:
                sums, counts = x.new_zeros(classes, x.shape[1]), y.new_zeros(classes)
                self.units = _Units(sums)
            sums.index_add_(0, y, x)
            counts += y.bincount(minlength=classes)
            self.units.add(x, y)
        if counts is None or not counts.any():
            raise InputError("features: there are no examples")
        self.classes, self.counts, self.total = classes, counts, int(counts.sum())
        self.mean = sums.sum(0) / self.total
        self.offsets = _no_rounding(sums / counts.unsqueeze(1) - self.mean, self.mean)


def _no_rounding(differences: Tensor, subtracted: Tensor) -> Tensor:
    """Rows (B, d) that hold nothing but the rounding of what was subtracted, (d,) or (B, d), become 0."""
    least = ROUNDING * subtracted.norm(dim=-1, keepdim=True)
    return differences.masked_fill(differences.norm(dim=1, keepdim=True) <= least, 0)


class _Centers:
    """Which center is nearest."""

    def __init__(self, centers: Tensor | None, first: _Means):
        self.mean = first.mean
        if centers is None:
            offsets = first.offsets
        else:
            _check_shape("centers", centers, first.offsets.shape)
            offsets = centers.detach().to(first.mean) - first.mean
        self.missing = ~offsets.isfinite().all(1)
        if self.missing.all():
            raise InputError("centers: none is finite")
        self.offsets = offsets.nan_to_num(0, 0, 0)
        self.squares = self.offsets.square().sum(1)

    def nearest(self, x: Tensor) -> Tensor:
        """The class (B,) of the center that is nearest to each row of x (B, d)."""
        x = x - self.mean  # else distances that are small beside the mean would be lost in the squares
        distances = (self.squares - 2 * x @ self.offsets.T).masked_fill(self.missing, float("inf"))
        scale = self.squares.max() + x.square().sum(1, keepdim=True)
        return (distances <= distances.amin(1, keepdim=True) + ROUNDING * scale).int().argmax(1)


class _Linear:
    """A linear final layer: its decisions, and the angles to its weights."""

    def __init__(self, weight: Tensor, bias: Tensor | None, first: _Means):
        _check_shape("weight", weight, first.offsets.shape)
        self.weight = weight.detach().to(first.mean)
        self.bias = first.mean.new_zeros(first.classes)
        if bias is not None:
            _check_shape("bias", bias, self.bias.shape)
            self.bias = bias.detach().to(first.mean)
        if not (self.weight.isfinite().all() and self.bias.isfinite().all()):
            raise InputError("weight and bias: not all are finite numbers")
        self.directions = self.weight / self.weight.norm(dim=1, keepdim=True)
        self.hardness, self.rows = first.mean.new_zeros(first.classes), first.counts.new_zeros(first.classes)

    def decisions(self, x: Tensor) -> Tensor:
        return (x @ self.weight.T + self.bias).argmax(1)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Count the angular visual hardness of x (B, d); a row of 0, or a weight of 0, has no angle."""
        angles = ((x / x.norm(dim=1, keepdim=True)) @ self.directions.T).clamp(-1, 1).acos()
        hardness = angles.gather(1, y.unsqueeze(1)).squeeze(1) / angles.sum(1)
        defined = hardness.isfinite()
        self.hardness.index_add_(0, y, hardness.where(defined, 0))
        self.rows.index_add_(0, y, defined.long())


def _check_shape(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    if value.shape != shape:
        raise InputError(f"{name}: shape {tuple(value.shape)}; allowed: {tuple(shape)}")


class _Spread:
    """The second pass: what lies around the means, and which center is nearest."""

    def __init__(self, batches: Batches, first: _Means, centers: _Centers, layer: _Linear | None):
        means, counts = first.mean + first.offsets, first.counts.new_zeros(first.classes)
        self.scatter = means.new_zeros(means.shape[1], means.shape[1])
        self.squares, self.units = means.new_zeros(first.classes), _Units(means)
        self.right, self.agrees = counts.clone(), counts.clone()
        for x, y in _checked(batches(), first.classes):
            if x.shape[1] != means.shape[1]:
                break
            counts += y.bincount(minlength=first.classes)
            around = _no_rounding(x - means[y], means[y])
            self.scatter.addmm_(around.T, around)
            self.squares.index_add_(0, y, around.square().sum(1))
            self.units.add(_no_rounding(x - first.mean, first.mean), y)
            nearest = centers.nearest(x)
            self.right.index_add_(0, y, (nearest == y).long())
            if layer is not None:
                self.agrees.index_add_(0, y, (nearest == layer.decisions(x)).long())
                layer.add(x, y)
        if not counts.equal(first.counts):
            raise InputError(f"batches: {first.total} examples, and others, or {int(counts.sum())}, the second time")
        self.scatter /= first.total
