"""The recipe of a study: what its keys mean, what is refused, what they make of data, job and identity."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from losstune.search.job import make_job
from losstune.search.plan import (
    Sizes,
    check_network,
    check_sizes,
    decay_norm,
    differences,
    identity,
    make_plan,
    quick_sizes,
)
from losstune.search.recipe_part import schedule_of
from losstune.search.study import Study, load_study, shipped_studies
from losstune.spaces import InputError
from losstune.trainables.datasets import DATASETS, load_dataset
from losstune.trainables.recipe import Recipe
from losstune.trainables.schedules import Cosine, Exponential, LogLinear, Schedule, Steps

# What a study recorded of its recipe before schedules, averaging and the rest could be said.
RECORDED_BEFORE = {
    "epochs": 27, "batch_size": 64, "optimizer": "sgd_nesterov", "momentum": 0.9, "schedule": "cosine",
    "augmentation": "none", "class_weights": "none", "precision": "float32", "init": "random",
}  # fmt: skip


@pytest.fixture
def load(tmp_path):
    """load(recipe, *assignments, losses): a study of digits from the text of its recipe."""

    def read(recipe: str = "", *assignments: str, losses: str = "[softmax, sigmoid]", network: str = "mlp") -> Study:
        text = f"data: digits\nnetwork: {network}\nlosses: {losses}\nrecipe: {{{recipe}}}\n"
        (tmp_path / "my.yaml").write_text(text)
        return load_study(tmp_path / "my.yaml", assignments)

    return read


@pytest.fixture
def recipe_of(load):
    """recipe_of(text): the Recipe that lanes get."""
    return lambda text="": make_job(make_plan(load(text)), Path("runs")).recipe


# --- what is read ---


def test_a_study_that_says_nothing_trains_as_ever(recipe_of):
    """SGD with Nesterov momentum 0.9, cosine, products, no clipping, no average, no mixing, every example as it is."""
    recipe = recipe_of()
    assert recipe == Recipe() and recipe.schedule == Schedule(Cosine()) and recipe.optimizer == "sgd_nesterov"
    assert (recipe.momentum, recipe.weight_decay_as, recipe.augmentation) == (0.9, "product", ())
    assert (recipe.clip_norm, recipe.average, recipe.mixup, recipe.class_weights) == (None, None, None, None)


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("schedule: cosine", Schedule(Cosine())),
        ("schedule: {cosine: {warmup: 5}}", Schedule(Cosine(), 5)),
        ("schedule: {steps: {at: [0.333, 0.667], factor: 0.1}}", Schedule(Steps((0.333, 0.667), 0.1))),
        ("schedule: {steps: {at: [1/3, 2/3]}}", Schedule(Steps((1 / 3, 2 / 3), 0.1))),
        ("epochs: 240, schedule: {steps: {at: [120, 160, 200], factor: 1e-1}}", Schedule(Steps((120, 160, 200)))),
        ("schedule: {exponential: {warmup: 10, rate: 0.975}}", Schedule(Exponential(0.975), 10)),
        ("epochs: 50, schedule: {log_linear: {to: 0.001}}", Schedule(LogLinear(0.001))),
        ("schedule: log_linear", Schedule(LogLinear())),
    ],
)
def test_schedules(recipe_of, text, schedule):
    """A name, or a name with its settings."""
    assert recipe_of(text).schedule == schedule


def test_everything_a_paper_says_reaches_the_trainer(recipe_of):
    """Field by field; what lanes get can be sent to them and be a key."""
    text = ("optimizer: sgd, momentum: 0.8, clip_norm: 2, average: {decay: 0.9999}, mixup: 0.2, batch_size: 32, "
            "epochs: 9, weight_decay_as: coefficient, weight_decay: 5e-4, class_weights: balanced")  # fmt: skip
    recipe = recipe_of(text)
    assert (recipe.optimizer, recipe.momentum, recipe.clip_norm, recipe.average) == ("sgd", 0.8, 2.0, 0.9999)
    assert (recipe.mixup, recipe.batch_size, recipe.epochs) == (0.2, 32, 9)
    assert recipe.weight_decay_as == "coefficient" and len(recipe.class_weights) == 10
    assert pickle.loads(pickle.dumps(recipe)) == recipe and hash(recipe) == hash(recipe_of(text))
    assert recipe_of("average: 0.99").average == recipe_of("average: {decay: 0.99}").average


def test_adamw_has_its_own_moments_and_learning_rates(load, recipe_of):
    """The losses' own learning rates are SGD's; whoever names others has the last word."""
    assert recipe_of("optimizer: adamw, betas: [0.9, 0.95], eps: 1e-6").betas == (0.9, 0.95)
    searched = load("optimizer: adamw").spaces["sigmoid"].searched["learning_rate"]
    assert (searched.low, searched.high, searched.default, searched.log) == (1e-4, 1e-2, 1e-3, True)
    assert load("optimizer: adamw, tune: [weight_decay]").spaces["softmax"].fixed["learning_rate"] == 1e-3
    assert load("optimizer: adamw, learning_rate: 0.02").spaces["softmax"].fixed["learning_rate"] == 0.02
    own = load("optimizer: adamw", losses="[{softmax: {learning_rate: 3e-4}}]")
    assert own.spaces["softmax"].fixed["learning_rate"] == 3e-4


def test_decay_of_norms_is_the_networks_own_unless_said(load):
    """Kornblith decays batch norm on CIFAR-100, not on CIFAR-10."""
    assert decay_norm(load(network="wrn_16_8")) and not decay_norm(load(network="all_cnn_c"))
    assert not decay_norm(load("decay_norm: false", network="wrn_16_8"))
    assert decay_norm(load("decay_norm: true", network="all_cnn_c"))
    assert not decay_norm(load("decay_norm: auto", network="torchvision:resnet18"))


# --- what is refused ---


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        ("optimizer: adam", "recipe.optimizer: 'adam'"),
        ("optimizer: adamw, momentum: 0.9", "recipe.momentum: not for adamw; allowed: betas"),
        ("betas: [0.9, 0.99]", "recipe.betas: not for sgd_nesterov; allowed: momentum, or optimizer adamw"),
        ("optimizer: sgd, eps: 1e-8", "recipe.eps: not for sgd; allowed: momentum, or optimizer adamw"),
        ("optimizer: adamw, betas: [0.9, 1]", "recipe.betas.1: 1: should be less than 1"),
        ("optimizer: adamw, betas: 0.9", "recipe.betas: 0.9"),
        ("optimizer: adamw, eps: 0", "recipe.eps: 0: should be greater than 0"),
        ("schedule: linear", "recipe.schedule: unknown schedule 'linear'; allowed: cosine, constant, steps"),
        ("schedule: {exponential: {rate: 0}}", "recipe.schedule.exponential.rate: 0 is out of bounds; allowed: (0, 1]"),
        ("schedule: {exponential: {warmup: 27}}", "recipe.schedule.exponential.warmup: 27 is not allowed; allowed: "),
        ("schedule: {steps: {at: [20, 10]}}", "recipe.schedule.steps.at: 10 does not come after 20; allowed: "),
        ("schedule: {steps: {at: [30]}}", "recipe.schedule.steps.at: 30 is beyond the end; allowed: below "),
        ("weight_decay_as: both", "recipe.weight_decay_as: 'both'"),
        ("weight_decay_as: coefficient", "recipe.weight_decay_as: coefficient, but the range of softmax is of "),
        ("decay_norm: 1", "recipe.decay_norm: 1: should be auto, true or false"),
        ("clip_norm: 0", "recipe.clip_norm: 0: should be greater than 0"),
        ("clip_norm: .inf", "recipe.clip_norm: inf"),
        ("average: 1", "recipe.average: 1: should be less than 1"),
        ("average: 0", "recipe.average: 0: should be greater than 0"),
        ("average: {decay: 1.5}", "recipe.average: 1.5: should be less than 1"),
        ("average: {rate: 0.9}", "recipe.average: {'rate': 0.9}: should be a number in (0, 1), or {decay:"),
        ("mixup: 0", "recipe.mixup: 0: should be greater than 0"),
        ("mixup: true", "recipe.mixup: True"),
        ("label_noise: 1", "recipe.label_noise: 1: should be less than 1"),
        ("label_noise: -0.1", "recipe.label_noise: -0.1"),
        ("label_noise: .nan", "recipe.label_noise: nan"),
        ("train_examples: 0", "recipe.train_examples: 0: should be a whole number of examples, or a share in (0, 1]"),
        ("train_examples: 1.5", "recipe.train_examples: 1.5: should be a whole number of examples"),
        ("train_examples: true", "recipe.train_examples: True: should be a whole number of examples"),
        ("augmentation: blur", "recipe.augmentation: 'blur'"),
    ],
)
def test_what_the_file_alone_shows(load, recipe, line):
    """One line: the field, what is wrong, what is allowed."""
    with pytest.raises(InputError) as error:
        load(recipe)
    assert f"my.yaml: {line}" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        ("train_examples: 1438", "recipe.train_examples: 1438 is more than the 1437 there are; allowed: 10 to 1437"),
        ("train_examples: 9", "recipe.train_examples: 9 is fewer than the 10 classes; allowed: 10 to 1437"),
        ("train_examples: 0.001", "recipe.train_examples: 0.001, which is 1, is fewer than the 10"),
        ("train_examples: 12", "split.validation: 0.15 leaves class"),
        ("train_examples: 70", "recipe.batch_size: 64 is more than the 59 training examples"),
        ("augmentation: [{random_resized_crop: {size: 2}}]", "network: small_cnn cannot take images of 2 x 2"),
    ],
)
def test_what_the_data_show(load, recipe, line):
    """Before anything starts."""
    with pytest.raises(InputError) as error:
        make_plan(load(recipe, network="small_cnn"))
    assert f"my.yaml: {line}" in str(error.value) and "\n" not in str(error.value)


def test_a_coefficient_is_taken_from_every_loss_that_names_its_own(load):
    """Where each has its own, the recipe need not say one."""
    losses = "[{softmax: {weight_decay: 5e-4}}, {sigmoid: {weight_decay: {low: 1e-5, high: 1e-3}}}]"
    assert load("weight_decay_as: coefficient", losses=losses).spaces["softmax"].fixed["weight_decay"] == 5e-4


# --- what it makes of the data ---


def _rows(split) -> list[bytes]:
    return [example.tobytes() for example in split.x]


@pytest.fixture
def true_labels(tmp_path):
    """The labels of digits' training part, by image."""
    train = load_dataset("digits", None, tmp_path).train
    return dict(zip(_rows(train), train.y.tolist(), strict=True))


def _wrong(split, true_labels) -> int:
    return sum(true_labels[row] != label for row, label in zip(_rows(split), split.y.tolist(), strict=True))


def test_wrong_labels_are_in_training_and_validation_and_not_in_the_test(load, true_labels):
    """Whoever has careless annotators has no clean labels to tune on; the paper's test set is clean."""
    plan, clean = make_plan(load("label_noise: 0.3")), make_plan(load())
    wrong = [_wrong(split, true_labels) for split in (plan.train, plan.validation)]
    assert sum(wrong) == round(0.3 * 1437) and len(plan.train) + len(plan.validation) == 1437
    assert 0.2 < wrong[1] / len(plan.validation) < 0.4
    assert (plan.test.y == clean.test.y).all() and plan.digest == clean.digest
    counts = np.bincount(np.r_[plan.train.y, plan.validation.y])
    assert (np.abs(np.bincount(plan.validation.y) - 0.15 * counts) < 1).all()  # stratified by the labels there are


def test_few_examples_are_split_like_many(load, true_labels):
    """A share or a number of those there are, every class in proportion; with noise, of those that are left."""
    for said in ("0.5", "718"):
        plan = make_plan(load(f"train_examples: {said}, label_noise: 0.1"))
        assert (len(plan.train), len(plan.validation)) == (610, 108)
        assert _wrong(plan.train, true_labels) + _wrong(plan.validation, true_labels) == 72
        assert len(set(_rows(plan.train)) | set(_rows(plan.validation))) == 718


def test_the_same_study_has_the_same_data_and_another_seed_others(load):
    """Lanes, and runs of years apart, see one degraded set."""
    text = "train_examples: 0.7, label_noise: 0.2"
    first, again, other = (make_plan(load(text, f"split.seed={seed}")) for seed in (0, 0, 1))
    assert (first.train.x == again.train.x).all() and (first.train.y == again.train.y).all()
    assert _rows(first.train) != _rows(other.train)


def test_balanced_weights_are_those_of_the_labels_there_are(load):
    """Nobody who has wrong labels could count the right ones."""
    plan = make_plan(load("label_noise: 0.3, class_weights: balanced"))
    expected = len(plan.train) / (10 * np.bincount(plan.train.y))
    assert make_job(plan, Path("runs")).recipe.class_weights == pytest.approx(expected)


def test_sizes_without_reading_the_data(load, tmp_path, monkeypatch):
    """`losstune check` says what `run` will train on."""
    for file in DATASETS["cifar10"].files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    monkeypatch.setenv("LOSSTUNE_DATA", str(tmp_path))
    sizes = quick_sizes(load("train_examples: 0.9, augmentation: crop_flip", "data=cifar10", "network=all_cnn_c"))
    assert (sizes.n_train, sizes.n_validation, sizes.n_test) == (38_250, 6_750, 10_000)
    with pytest.raises(InputError, match="my.yaml: recipe.train_examples: 50001 is more than the 50000 there are"):
        quick_sizes(load("train_examples: 50001", "data=cifar10"))


def test_the_network_is_built_for_what_augmentation_leaves(load):
    """A crop to another size is what it sees."""
    plan = make_plan(load("augmentation: [{random_resized_crop: {size: 12}}]", network="small_cnn"))
    assert (plan.input_shape, plan.network_shape) == ((1, 8, 8), (1, 12, 12))
    job = make_job(plan, Path("runs"))
    assert job.network.input_shape == (1, 12, 12) and hash(job.recipe) and job.recipe.augmentation


# --- identity ---


def test_a_study_of_before_is_the_same_study(load):
    """Keys that did not exist do not make it another; what they say by default is how it was trained."""
    now = identity(make_plan(load()))
    before = {**now, "recipe": RECORDED_BEFORE}
    assert {key: now["recipe"][key] for key in RECORDED_BEFORE} == RECORDED_BEFORE
    assert differences(before, now) == []


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        ("label_noise: 0.2", "recipe.label_noise: was 0.0, now 0.2"),
        ("train_examples: 0.5", "recipe.train_examples: was None, now 0.5"),
        ("average: 0.99", "recipe.average: was None, now 0.99"),
        ("clip_norm: 2", "recipe.clip_norm: was None, now 2.0"),
        ("decay_norm: true", "recipe.decay_norm: was 'auto', now True"),
        ("schedule: {cosine: {warmup: 2}}", "recipe.schedule: was 'cosine', now {'cosine': {'warmup': 2}}"),
    ],
)
def test_what_was_not_recorded_may_not_change_either(load, recipe, line):
    """A study of before had the default of each key, and so has another recipe."""
    now = identity(make_plan(load(recipe)))
    assert differences({**now, "recipe": RECORDED_BEFORE}, now) == [line]


def test_two_ways_to_write_a_schedule_are_one_recipe(load):
    """What is recorded is plain data, in full."""
    texts = ("steps", "{steps: {}}", "{steps: {at: [1/3, 2/3], factor: 0.1}}", "{steps: {factor: 0.1, warmup: 0}}")
    written = [identity(make_plan(load(f"schedule: {text}"))) for text in texts]
    assert all(json.loads(json.dumps(one)) == written[0] for one in written)
    assert differences(written[0], identity(make_plan(load("schedule: {steps: {at: [0.3]}}")))) != []


# --- the shipped studies ---


@pytest.mark.parametrize("name", shipped_studies())
def test_a_shipped_study_can_be_run_where_its_data_are(name):
    """Recipe, network and data fit."""
    study = load_study(name)
    known = DATASETS[study.data].sizes if study.data in DATASETS else None
    sizes = Sizes(known.n_train, 0, known.n_test, known.num_classes, known.input_shape) if known else IMAGENET
    check_sizes(study, sizes)
    check_network(study, sizes)


IMAGENET = Sizes(1_281_167, 0, 50_000, 1000, (3, 256, 256))


def test_the_papers_recipes_in_the_shipped_studies():
    """Schedule and what belongs to it, as in the papers."""
    recipes = {name: load_study(name).recipe for name in shipped_studies()}
    schedules = {name: schedule_of(recipe).spec for name, recipe in recipes.items()}
    assert schedules["kobayashi_table3"] == {"log_linear": {"to": 0.001}}
    assert schedules["zhou_cifar10"] == {"steps": {"at": [1 / 3, 2 / 3], "factor": 0.1}}
    assert schedules["battash_cifar100"] == {"steps": {"at": [120, 160, 200], "factor": 0.1}}
    assert schedules["demirkaya_cifar100"] == {"steps": {"at": [50, 80, 110, 150, 170], "factor": 0.25}}
    assert schedules["kornblith_imagenet"] == {"exponential": {"rate": 0.975, "warmup": 10}}
    assert recipes["zhou_cifar10"].clip_norm == 2
    assert recipes["kornblith_imagenet"].average == pytest.approx(0.9999 ** (1 / 4), abs=1e-9)
