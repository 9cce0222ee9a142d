"""What only a GPU can show: captured steps, and training there. Skipped where there is none."""

import numpy as np
import pytest
import torch

from losstune.trainables.backends import Choice
from losstune.trainables.features import Recording
from losstune.trainables.graphs import WARM_UP
from losstune.trainables.inputs import Inputs
from losstune.trainables.measurement import Probe
from losstune.trainables.metrics import METRICS
from losstune.trainables.network import Network
from losstune.trainables.other_data import OWN, OtherData
from losstune.trainables.recipe import Recipe
from losstune.trainables.recording import Recorder
from losstune.trainables.scoring import Scorer
from losstune.trainables.states import evaluated
from losstune.trainables.trainer import Stack

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use")
CASES = [("mlp", Choice("batched", 16)), ("small_cnn", Choice("grouped", 4)), ("small_cnn", Choice("sequential", 1)),
         ("small_cnn", Choice("vmap", 4)), ("small_cnn", Choice("streams", 4))]  # fmt: skip


@pytest.fixture
def make_gpu_stack(digits):
    def make(network, choice, captured=True, **recipe):
        inputs = [Inputs(split, digits.normalization, "cuda") for split in (digits.train, digits.validation)]
        stack = Stack("tests", Network(network, (1, 8, 8), 10), Recipe(**recipe), *inputs,
                      Scorer(METRICS["accuracy"], 10).followed, "cuda", 64, choice)  # fmt: skip
        stack.draws_itself = not captured  # then steps are taken one kernel after another
        return stack

    return make


@pytest.mark.parametrize(("network", "choice"), CASES, ids=str)
def test_captured_steps_train_as_steps_that_are_not(make_gpu_stack, make_trial, network, choice):
    """Losses of every kind: closed forms, autograd, noise, two passes, state, an average and class weights."""
    found = []
    for captured in (True, False):
        stack = make_gpu_stack(network, choice, captured, average=0.99, class_weights=(1.0,) * 9 + (2.0,), mixup=0.2)
        for loss in ("softmax", "dropout", "cosine_softmax", "cot", "center"):
            stack.join(make_trial(loss, learning_rate=0.02))
        for _ in range(3):
            results = stack.train_epoch()
        if captured:
            assert all(chunk.taken_by.graph is not None for chunk in stack.chunks)
            assert stack.steps > WARM_UP
        found.append({name: result.train_loss for name, result in results.items()})
    for loss, values in found[0].items():
        assert values == pytest.approx(found[1][loss], rel=0.02, abs=0.01)


@pytest.mark.parametrize(("network", "choice"), CASES, ids=str)
def test_training_on_a_gpu_comes_close_to_training_on_a_cpu(make_gpu_stack, make_stack, make_trial, network, choice):
    trial, losses = make_trial("softmax", seeds=(0, 1, 2), learning_rate=0.05), []
    for stack in (make_gpu_stack(network, choice), make_stack(network=network)):
        stack.join(trial)
        for _ in range(2):
            result = stack.train_epoch()[trial.id]
        losses.append(result.train_loss)
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_bfloat16_learns_the_digits(make_gpu_stack, make_trial):
    stack = make_gpu_stack("mlp", Choice("batched", 16), precision="bfloat16")
    trial = make_trial("softmax", seeds=(0, 1))
    stack.join(trial)
    for _ in range(8):
        result = stack.train_epoch()[trial.id]
    assert min(result.scores["accuracy"]) > 0.9


def test_a_member_on_a_stream_of_its_own_trains_as_alone(make_gpu_stack, make_trial):
    losses = []
    for choice in (Choice("streams", 8), Choice("sequential", 1)):
        stack = make_gpu_stack("small_cnn", choice)
        for seed in range(11):  # a whole chunk, and one that is not
            stack.join(make_trial("softmax", name=str(seed), seeds=(seed,), learning_rate=0.02))
        for _ in range(3):
            results = stack.train_epoch()
        losses.append([results[str(seed)].train_loss[0] for seed in range(11)])
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


def test_the_probe_measures_a_gpu(digits):
    found = Probe(Network("small_cnn", (1, 8, 8), 10), Recipe(), Inputs(digits.train, digits.normalization, "cuda"),
                  "cuda").measure()  # fmt: skip
    assert found.width > 1 and len(found.milliseconds) >= 3


@pytest.mark.parametrize("network", ["mlp", "small_cnn"])
def test_what_a_gpu_records_of_a_network_is_what_a_cpu_records(make_gpu_stack, make_stack, make_trial, digits, network):
    """Statistics, features and layers; scores on corrupted images; features to transfer."""
    trial, first = make_trial("softmax", seeds=(0,), learning_rate=0.05), make_gpu_stack(network, None)
    first.join(trial)
    first.train_epoch()
    second = make_stack(network=network)
    second.join(trial, first.state(trial.id))
    assert_recorded_alike([recorded(stack, trial, digits) for stack in (first, second)])


def recorded(stack, trial, digits):
    wanted = Recording(features=50, layers=30, train_examples=200, corruptions=("contrast",), corruption_examples=100)
    test = Inputs(digits.test, digits.normalization, stack.device.type)
    recorder = Recorder(wanted, stack, test, OtherData(own_examples=40), prepare=None)
    state = evaluated(stack.state(trial.id)["members"][0])
    return (recorder.record(trial.loss, state), recorder.robustness.measure(trial.id, trial.loss),
            recorder.transferred(state)[OWN])  # fmt: skip


def assert_recorded_alike(records):
    """Up to the rounding of float32 and TF32; single test examples may fall to the other side."""
    (one, scores, kept), (other, their_scores, their_kept) = records
    for split, own in one.examples.items():
        assert np.array_equal(own.indices, other.examples[split].indices)
        np.testing.assert_allclose(own.features, other.examples[split].features, rtol=0.02, atol=0.02)
        np.testing.assert_allclose(one.statistics[split].class_means, other.statistics[split].class_means,
                                   rtol=0.02, atol=0.02)  # fmt: skip
    assert one.layers.names.tolist() == other.layers.names.tolist()
    np.testing.assert_allclose(one.layers.grams, other.layers.grams, rtol=0.05,
                               atol=0.01 * np.abs(other.layers.grams).max())  # fmt: skip
    np.testing.assert_allclose([own.accuracy for own in scores.corrupted["contrast"]],
                               [own.accuracy for own in their_scores.corrupted["contrast"]], atol=0.03)  # fmt: skip
    np.testing.assert_allclose(kept.train.features, their_kept.train.features, rtol=0.02, atol=0.02)
