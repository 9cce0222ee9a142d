"""Linear probes: the objective's own gradient, another solver, an optimum worked out by hand, and scaling laws."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from losstune.analysis import transfer
from losstune.analysis.transfer import PENALTIES, Labelled, Splits, linear_probe, transfer_table
from losstune.spaces import InputError

pytestmark = pytest.mark.filterwarnings("error")


def overlapping(classes=3, count=300, width=4, seed=0, labels=None):
    """Classes that overlap, features off center and of unequal scale; a third each for train, validation and test."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(count) % classes)
    x = (rng.normal(size=(classes, width))[y] + rng.normal(size=(count, width))) * (1 + np.arange(width)) + 5
    y = y if labels is None else np.array(labels)[y]
    train, validation, test = (Labelled(x[part::3], y[part::3]) for part in range(3))
    return Splits(train, test, validation)


def scaled(splits, factor):
    return Splits(*(Labelled(part.features * factor, part.labels) for part in splits))


def replaced(splits, **parts):
    """The splits with features or labels of one part replaced: train_features=..., test_labels=..."""
    for name, value in parts.items():
        part, field = name.split("_")
        splits = splits._replace(**{part: getattr(splits, part)._replace(**{field: value})})
    return splits


def together(splits):
    return tuple(np.concatenate(pair) for pair in zip(splits.train, splits.validation, strict=True))


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes, reduction", [(2, "sum"), (2, "mean"), (3, "sum"), (3, "mean")])
def test_the_classifier_is_where_the_gradient_is_zero(classes, reduction):
    """Of the objective as the module states it, on training and validation set, on the features as they were given."""
    splits = overlapping(classes, seed=classes)
    probe = linear_probe(splits, reduction)
    x, y = together(splits)
    assert probe.n_train == len(x) == 200
    residual = (softmax(x @ probe.weights.T + probe.bias) - np.eye(classes)[y]) / (1 if reduction == "sum" else len(x))
    from_losses, from_penalty = residual.T @ x, probe.penalty * probe.weights
    assert np.abs(from_penalty).max() > 1e-3 * (1 if reduction == "sum" else 1 / len(x))
    np.testing.assert_allclose(from_losses + from_penalty, 0, atol=2e-2 * np.abs(from_penalty).max())
    assert np.abs(residual.sum(axis=0)).max() < 1e-5 * len(x)


def test_by_hand():
    """x = -1 and 1, a class each, 8 examples in all: with u = w_1 - w_0, 8 sigma(-u) = lambda u / 2.

    Every lambda is right everywhere, so that the strongest is taken: 8 / 2 = 1e5 u / 2, u = 8e-5, weights -+ 4e-5.
    """
    x, y = np.array([[-1.0], [1], [-1], [1]]), np.array([0, 1, 0, 1])
    probe = linear_probe(Splits(Labelled(x, y), Labelled(x[:2], y[:2]), Labelled(x, y)))
    np.testing.assert_allclose(probe.weights, [[-4e-5], [4e-5]], rtol=1e-4)
    np.testing.assert_allclose(probe.bias, 0, atol=1e-6)
    assert (probe.penalty, probe.at_end, probe.accuracy) == (1e5, "strongest", 1.0)


def test_the_path_is_that_of_another_solver_without_warm_starts():
    splits = overlapping(classes=4, count=450, seed=1)
    probe = linear_probe(splits)
    np.testing.assert_allclose(probe.path["penalty"], 10.0 ** (5 - np.arange(45) / 4))
    for penalty, accuracy in probe.path[["penalty", "accuracy"]].to_numpy()[::4]:
        other = LogisticRegression(C=1 / penalty, solver="newton-cholesky", tol=1e-10, max_iter=1000)
        assert other.fit(*splits.train).score(*splits.validation) == pytest.approx(accuracy, abs=1e-12)
    best = probe.path["accuracy"].idxmax()
    assert probe.penalty == probe.path["penalty"][best] and 0 < best < 44 and probe.at_end == ""
    assert probe.converged and probe.path["converged"].all()
    retrained = LogisticRegression(C=1 / probe.penalty, solver="newton-cholesky", tol=1e-10).fit(*together(splits))
    assert probe.accuracy == retrained.score(*splits.test)


def test_features_ten_times_smaller_move_the_path_by_a_hundred():
    """|W x| is the same with W ten times larger, |W|^2 a hundred times: eight of the 45 steps."""
    splits = overlapping(seed=2)
    given = linear_probe(splits).path
    for factor, steps in ((0.1, 8), (1e-4, 32)):
        small = linear_probe(scaled(splits, factor)).path
        np.testing.assert_allclose(small["accuracy"][steps:], given["accuracy"][:-steps], atol=1e-12)


def test_the_mean_of_the_losses_takes_a_penalty_smaller_by_their_number():
    splits = overlapping(seed=3)
    assert len(splits.train.labels) == 100
    mean, whole = linear_probe(splits, "mean").path, linear_probe(splits, "sum").path
    np.testing.assert_allclose(mean["accuracy"][8:], whole["accuracy"][:-8], atol=1e-12)


def test_small_features_are_fitted_and_the_end_of_the_range_is_said():
    """Given these as they are, scikit-learn at its default tolerance has 10% right at every lambda."""
    x, y = load_digits(return_X_y=True)
    splits = Splits(Labelled(x[:600] * 1e-5, y[:600]), Labelled(x[600:900] * 1e-5, y[600:900]))
    probe = linear_probe(splits)
    assert probe.accuracy > 0.8
    assert (probe.penalty, probe.at_end) == (pytest.approx(1e-6), "weakest")
    assert probe.path["iterations"].iloc[-1] > 0


def test_the_test_set_decides_nothing():
    splits = overlapping(seed=4)
    one = linear_probe(splits)
    other = linear_probe(splits._replace(test=Labelled(splits.test.features, (splits.test.labels + 1) % 3)))
    assert one.accuracy > 0.5 > other.accuracy
    pd.testing.assert_frame_equal(one.path, other.path)
    np.testing.assert_array_equal(one.weights, other.weights)


def test_retraining_starts_at_the_chosen_lambda(monkeypatch):
    """With the training set as validation set the mean of the losses stays the same: there is nowhere to go."""
    iterations, fit = [], LogisticRegression.fit
    monkeypatch.setattr(
        LogisticRegression, "fit", lambda self, x, y: iterations.append(fit(self, x, y).n_iter_[0]) or self
    )
    splits = overlapping(seed=8)
    probe = linear_probe(splits._replace(validation=splits.train), "mean")
    assert probe.penalty > 1e-5 and len(iterations) == 46 and iterations[-1] == 0


def test_validation_is_held_out_by_class_and_alike_for_every_model(monkeypatch):
    """Features are the example's number, in two units: the solver, which sees neither unit, has to see the same."""
    given, fit = [], LogisticRegression.fit
    monkeypatch.setattr(LogisticRegression, "fit", lambda self, x, y: given.append((x, y)) or fit(self, x, y))
    y = np.repeat([0, 1, 2], [60, 30, 10])
    for column in (np.arange(100.0), 7 + 3 * np.arange(100.0)):
        train = Labelled(column[:, None], y)
        assert linear_probe(Splits(train, train)).n_train == 100
    one, other = given[0], given[len(given) // 2]
    assert np.bincount(one[1]).tolist() == [48, 24, 8]
    np.testing.assert_allclose(one[0], other[0], atol=1e-12)
    np.testing.assert_array_equal(one[1], other[1])


def test_features_that_never_vary_give_the_most_frequent_class():
    y = np.array(["cat", "dog", "dog", "ant"] * 10)
    probe = linear_probe(Splits(*[Labelled(np.full((40, 3), 0.1), y)] * 3))
    assert probe.accuracy == 0.5
    assert probe.classes.tolist() == ["ant", "cat", "dog"]


def test_what_the_solver_does_not_reach_is_said(monkeypatch):
    monkeypatch.setattr(transfer, "MAX_ITERATIONS", 2)
    splits = overlapping(seed=5)
    probe = linear_probe(splits)
    assert not probe.path["converged"].all() and probe.path["iterations"].max() == 2
    assert not transfer_table([("softmax", 0, "pets", splits)])["converged"][0]


def test_table():
    """Rows in the order given; a model whose features broke is a row with its reason."""
    good, words = overlapping(seed=6), overlapping(2, seed=7, labels=["no", "yes"])
    broken = replaced(good, train_features=np.where(good.train.features > 8, np.nan, good.train.features))
    models = [("softmax", 0, "pets", good), ("softmax", 1, "cars", words), ("sigmoid", 0, "pets", broken)]
    table = transfer_table(iter(models))
    assert table[["loss", "seed", "data"]].to_numpy().tolist() == [list(row[:3]) for row in models]
    for row, splits in zip(table.itertuples(), (good, words), strict=False):
        alone = linear_probe(splits)
        assert (row.accuracy, row.penalty, row.at_end) == (alone.accuracy, alone.penalty, alone.at_end)
        assert (row.converged, row.n_train, row.reason) == (True, 200, "")
    assert np.isnan(table["accuracy"][2]) and np.isnan(table["penalty"][2]) and not table["converged"][2]
    assert "not finite" in table["reason"][2]
    assert list(transfer_table([]).columns) == list(table.columns)


X, Y = overlapping().train
HOLED = X.copy()
HOLED[[3, 7], 1] = np.nan, np.inf
BAD = {
    "train: features of 2 of 100 examples are not finite": {"train_features": HOLED},
    "test: features of 2 of 100": {"test_features": HOLED},
    "validation: labels of shape (99,) for 100 examples": {"validation_labels": Y[1:]},
    "train: labels of shape (100, 1)": {"train_labels": Y[:, None]},
    "train: two or more classes are needed, all labels are 1": {"train_labels": np.ones(100, int)},
    "test: 3 features, but train has 4": {"test_features": X[:, 1:]},
    "test: no example of class 7 in train (1 such classes)": {"test_labels": np.where(Y == 0, 7, Y)},
    "validation: no example of class 7": {"validation_labels": np.where(Y == 0, 7, Y)},
    "train: a label is missing": {"train_labels": np.where(Y == 0, np.nan, Y)},
    "not float64 of shape (100,)": {"train_features": X[:, 0]},
    "of shape (0, 4)": {"test_features": X[:0]},
    "not <U1 of shape": {"test_features": np.full((100, 4), "a")},
    "too large to be squared": {"train_features": X * 1e200},
}


@pytest.mark.parametrize("said", BAD)
def test_bad_input_is_one_line(said):
    with pytest.raises(InputError) as refused:
        linear_probe(replaced(overlapping(), **BAD[said]))
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_nothing_to_hold_out_is_one_line():
    few = Labelled(X[:4], np.array([0, 0, 0, 1]))
    with pytest.raises(InputError, match="train: 4 examples: no validation set can be held out: ") as refused:
        linear_probe(Splits(few, few))
    assert "\n" not in str(refused.value)


def test_an_unknown_reduction_is_refused():
    for call in (lambda: linear_probe(overlapping(), "max"), lambda: transfer_table([], "max")):
        with pytest.raises(InputError, match="reduction: 'max'; allowed: sum, mean"):
            call()


def test_the_penalties_are_the_paper_s():
    assert len(PENALTIES) == 45 and sorted(PENALTIES)[0] == 1e-6 and max(PENALTIES) == 1e5
