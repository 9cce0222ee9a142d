"""The other data that a study's record names: read and checked before anything starts."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from losstune.spaces import InputError
from losstune.trainables.corruptions import check_corruptible
from losstune.trainables.datasets import Dataset, OnDisk, Split, load_dataset, locate
from losstune.trainables.other_data import OWN, OtherData, ShiftedTest, TransferData
from losstune.trainables.seeds import derive

if TYPE_CHECKING:
    from losstune.search.plan import Plan
    from losstune.search.study import Study

Shape = tuple[int, ...]
LUMINANCE = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow's


def check_other_data(study: Study, input_shape: Shape, root: str | None) -> None:
    """What shows without reading them: whether inputs can be corrupted, and data sets are where they should be."""
    record = study.record
    if record is None:
        return
    if record.corruptions:
        with _naming("record.corruptions"):
            check_corruptible(input_shape)
    for field, spec in _specs(study).items():
        with _naming(field):
            locate(spec, root, study.folder)


def load_other_data(study: Study, input_shape: Shape, class_names: tuple[str, ...], root: str | None) -> OtherData:
    """The shifted test sets and the data sets to transfer to. InputError for what does not fit the study's own data.

    Shifted sets have its input shape and its classes, in their order: the same names, or as many where one of the two
    only counts them. Examples of data sets to transfer to are brought to its input shape: images resized between
    pixels linearly, averaged where they shrink; grey ones repeated in each channel, of colours the luminance.
    """
    record = study.record
    if record is None:
        return OtherData()
    shifted, transfer = {}, {}
    for field, spec in _specs(study).items():
        with _naming(field):
            dataset = load_dataset(spec, root, study.folder)
            if field.startswith("record.shifted."):
                shifted[field.removeprefix("record.shifted.")] = _shifted(dataset, input_shape, class_names)
            else:
                transfer[spec] = _transfer(dataset, input_shape, record.transfer_examples)
    return OtherData(shifted, transfer, record.transfer_examples if record.transfer else 0)


def transferred_examples(plan: Plan) -> int:
    """Of how many examples a member's features are kept for transfer."""
    others = plan.others
    own = sum(min(others.own_examples, len(split)) for split in (plan.train, plan.test))
    return own + sum(len(data.train) + len(data.test) for data in others.transfer.values())


def _specs(study: Study) -> dict[str, str]:
    """Each data set by the field that names it."""
    record = study.record
    shifted = {f"record.shifted.{name}": spec for name, spec in record.shifted.items()}
    return shifted | {f"record.transfer.{place}": spec for place, spec in enumerate(record.transfer) if spec != OWN}


@contextlib.contextmanager
def _naming(field: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"{field}: {error}") from None


def _shifted(dataset: Dataset, input_shape: Shape, class_names: tuple[str, ...]) -> ShiftedTest:
    if dataset.input_shape != input_shape:
        raise InputError(f"an example has shape {dataset.input_shape}; allowed: {input_shape}, as the study's own data")
    if dataset.num_classes != len(class_names):
        raise InputError(f"{dataset.num_classes} classes; allowed: {len(class_names)}, as the study's own data")
    own, counted = dataset.class_names, tuple(map(str, range(len(class_names))))
    if own != class_names and counted not in (own, class_names):
        place, (found, wanted) = next((k, pair) for k, pair in enumerate(zip(own, class_names, strict=True))
                                      if pair[0] != pair[1])  # fmt: skip
        raise InputError(f"class {place} is {found!r}; allowed: {wanted!r}, as in the study's own data")
    return ShiftedTest(dataset.in_memory().test, dataset.digest())


def _transfer(dataset: Dataset, shape: Shape, most: int) -> TransferData:
    parts = []
    for name in ("train", "test"):
        split = getattr(dataset, name)
        chosen = split.take(_some(split.y, most, derive("transfer", name)))
        x = chosen.x.read(np.arange(len(chosen))) if isinstance(chosen.x, OnDisk) else chosen.x
        parts.append(Split(_fitted(x, shape), chosen.y))
    return TransferData(*parts, dataset.digest())


def _some(y: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Some of the examples, classes in proportion; in their order."""
    from losstune.trainables.recording import stratified_order  # torch, which other studies need not load

    return np.sort(stratified_order(y, seed % 2**32)[:most])


def _fitted(x: np.ndarray, shape: Shape) -> np.ndarray:
    """Examples in the shape of the study's own."""
    if x.shape[1:] == shape:
        return x
    channels = x.shape[1] if x.ndim == 4 else 0
    if len(shape) != 3 or channels == 0 or (channels != shape[0] and channels != 1 and (channels, shape[0]) != (3, 1)):
        raise InputError(f"an example has shape {x.shape[1:]}; allowed: {shape}, as the study's own data, or images of "
                         "another size, or grey instead of colour")  # fmt: skip
    if channels == 3 and shape[0] == 1:
        x = np.rint(np.tensordot(x, LUMINANCE, (1, 0)))[:, None].astype(np.uint8)
    if x.shape[2:] != shape[1:]:
        x = _resized(x, shape[1:])
    return np.repeat(x, shape[0], 1) if x.shape[1] < shape[0] else x


def _resized(x: np.ndarray, size: Shape) -> np.ndarray:
    from PIL import Image

    each = [[np.asarray(Image.fromarray(channel).resize(size[::-1], Image.Resampling.BILINEAR)) for channel in image]
            for image in x]  # fmt: skip
    return np.array(each)
