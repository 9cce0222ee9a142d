"""A small real data set and stacks on it, for the tests of the trainer."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from losstune.spaces import check_hyperparameters, space_of
from losstune.trainables.augmentation import resolve
from losstune.trainables.datasets import load_dataset
from losstune.trainables.datasets.splitting import hold_out
from losstune.trainables.inputs import Inputs, Normalization
from losstune.trainables.metrics import METRICS
from losstune.trainables.network import Network
from losstune.trainables.recipe import Recipe
from losstune.trainables.scoring import Scorer
from losstune.trainables.trainer import Stack
from losstune.trainables.trial import Trial


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """As in a lane: the guarantees on bits are made for one thread."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    dataset = load_dataset("digits", None, tmp_path_factory.mktemp("none"))
    train, validation = hold_out(dataset.train, 0.15, 0)
    return SimpleNamespace(train=train, validation=validation, test=dataset.test, normalization=Normalization(train.x))


@pytest.fixture
def make_stack(digits):
    """make_stack(network="mlp", source=None, examples=None, ..., **recipe) -> an empty stack on digits."""

    def make(network="mlp", source=None, examples=None, width=64, backend=None, augmentation="none", **recipe):
        pipeline = resolve(augmentation, (1, 8, 8))
        inputs = partial(Inputs, normalization=digits.normalization, augmentation=pipeline)
        train = digits.train if examples is None else digits.train.take(slice(examples))
        spec = Network(network, (1, 8, 8), 10, source=source)
        scorer = Scorer(METRICS["accuracy"], 10)
        return Stack("tests", spec, Recipe(**recipe), inputs(train), inputs(digits.validation), scorer.followed,
                     width=width, backend=backend)  # fmt: skip

    return make


@pytest.fixture
def make_trial():
    """make_trial(loss, seeds=(0, 1), learning_rate=None, ...) -> a trial at the loss's defaults."""

    def make(loss="softmax", seeds=(0, 1), name=None, epochs=27, learning_rate=None, weight_decay=None, **own):
        shared = space_of(loss).shared()
        return Trial(name or loss, loss, check_hyperparameters(loss, own, num_classes=10),
                     learning_rate or shared["learning_rate"].default / 2,
                     shared["weight_decay"].default if weight_decay is None else weight_decay,
                     "search", tuple(seeds), epochs)  # fmt: skip

    return make


def same_bits(first, second):
    """Whether two states agree in every bit of every member; the epoch only where both say one."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first, second)
    if isinstance(first, list):
        return len(first) == len(second) and all(map(same_bits, first, second))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(same_bits(value, second[key]) for key, value in first.items())
    return first == second


@pytest.fixture(name="same_bits")
def _same_bits():
    return same_bits
