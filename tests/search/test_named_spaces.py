"""`space: NAME` in a study: the papers' own grids and settings, number by number, and what overrides them."""

import math

import pytest

from losstune.search.study import make_study
from losstune.spaces import NAMED_SPACES, SPACES, Choice, InputError, Real, check_hyperparameters, members_of, space_of


@pytest.fixture
def study(tmp_path):
    def make(losses, **fields):
        fields = {"name": "my", "data": "digits", "network": "mlp", "losses": losses, **fields}
        return make_study(fields, "my", tmp_path)

    return make


COARSE_RATES = [10**e for e in (-2, -1.5, -1, -0.5, 0, 0.5)]
COARSE_DECAYS = [10**e for e in (-4.5, -4, -3.5, -3)]


@pytest.mark.parametrize(
    ("name", "loss", "fixed"),
    [
        ("kornblith-cifar10", "squared_error", {"kappa": 8.0, "M": 0.83}),
        ("kornblith-cifar10", "final_layer_l2", {"lambda_final": 10**-1.5}),
        ("kornblith-cifar10", "label_smoothing", {"alpha": 0.04, "scaled": True}),
        ("kornblith-cifar100", "squared_error", {"kappa": 6.0, "M": 12.0}),
        ("kornblith-cifar100", "logit_norm", {"tau": 0.11}),
        ("kornblith-cifar100", "logit_penalty", {"beta": 10**-2.83, "half": False}),
    ],
)
def test_kornblith_on_cifar_searches_learning_rate_and_weight_decay_on_the_coarse_grid(study, name, loss, fixed):
    """Kornblith A.1 for the grid, Table A.2 for what the losses' own hyperparameters were."""
    space = study([loss], space=name).spaces[loss]
    assert space.searched["learning_rate"].choices == pytest.approx(COARSE_RATES)
    assert space.searched["weight_decay"].choices == pytest.approx(COARSE_DECAYS)
    assert set(space.searched) == {"learning_rate", "weight_decay"}
    assert {key: space.fixed[key] for key in fixed} == fixed


def test_the_default_asked_first_is_the_grid_point_nearest_to_it(study):
    # Table A.2 found 10^-0.75 and 10^-3.75 for softmax: between two points each, on the log scale equally near.
    default = study(["softmax"], space="kornblith-cifar10").spaces["softmax"].default()
    assert math.log10(default["learning_rate"]) in (pytest.approx(-1), pytest.approx(-0.5))
    assert math.log10(default["weight_decay"]) in (pytest.approx(-4), pytest.approx(-3.5))
    assert study(["logit_norm"], space="kornblith-cifar10").spaces["logit_norm"].default() == {
        "learning_rate": pytest.approx(0.01), "weight_decay": pytest.approx(1e-4),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("loss", "key", "grid"),
    [
        ("dropout", "rho", [0.6, 0.65, 0.7, 0.75, 0.8, 0.85]),
        ("label_smoothing", "alpha", [0.08, 0.09, 0.1, 0.11, 0.12]),
        ("final_layer_l2", "lambda_final", [4e-4, 6e-4, 8e-4, 1e-3]),
        ("logit_penalty", "beta", [5e-5, 1e-4, 2e-4, 4e-4, 6e-4, 8e-4]),
        ("logit_norm", "tau", [0.03, 0.04, 0.05, 0.06]),
        ("cosine_softmax", "tau", [0.04, 0.045, 0.05, 0.06, 0.07, 0.08]),
    ],
)
def test_kornblith_on_imagenet_is_table_a1(study, loss, key, grid):
    space = study([loss], space="kornblith-imagenet").spaces[loss]
    assert list(space.searched) == [key] and list(space.searched[key].choices) == grid
    # The authors' code has beta/2 and normalizes the weights alone.
    assert {"half": True}.items() <= space.fixed.items() or loss != "logit_penalty"
    assert {"normalize_features": False}.items() <= space.fixed.items() or loss != "cosine_softmax"
    # A weight decay of 8e-5 at a learning rate of 1.6; ours is the product.
    assert space.fixed["learning_rate"] == 1.6 and space.fixed["weight_decay"] == pytest.approx(1.28e-4)


def test_a_value_that_depends_on_the_classes_is_settled_by_the_data(study):
    made = study(["squared_error", "ccql", "quadratic"], space="kornblith-imagenet")
    made.settle(10)
    assert made.spaces["squared_error"].fixed["loss_scale"] == 100.0  # a sum over classes, times 10
    assert made.spaces["ccql"].default()["w"] == 2.0  # sqrt(10 - 1) - 1: Kornblith has no ccql, so its own default


@pytest.mark.parametrize(("classes", "values"), [(10, (2.0, 8.0)), (5, (1.0, 3.0))])
def test_demirkaya_has_the_square_root_and_the_linear_w(study, classes, values):
    made = study(["ccql"], space="demirkaya")
    made.settle(classes)
    assert made.spaces["ccql"].searched["w"].choices == values
    assert isinstance(made.spaces["ccql"].searched["learning_rate"], Real)  # tuned by hand there


def test_demirkaya_with_two_classes_has_one_w_which_is_quadratic(study):
    made = study(["ccql"], space="demirkaya")
    made.settle(2)
    assert made.spaces["ccql"].fixed["w"] == 0.0 and "w" not in made.spaces["ccql"].searched


def test_the_other_papers(study):
    kobayashi = study(["large_margin", "label_smoothing"], space="kobayashi").spaces
    assert kobayashi["large_margin"].searched["lam"].choices == tuple(i / 10 for i in range(1, 10))
    assert kobayashi["large_margin"].searched["divergence"].choices == ("symmetric", "u_q", "q_u")
    assert kobayashi["label_smoothing"].searched["alpha"].choices == (0.01, 0.05, 0.1, 0.3)
    assert kobayashi["label_smoothing"].fixed["scaled"] is False
    zhou = study(["focal", "label_smoothing", "squared_error"], space="zhou").spaces
    assert zhou["focal"].fixed["gamma"] == 3.0 and zhou["label_smoothing"].fixed["alpha"] == 0.1
    assert (zhou["squared_error"].fixed["kappa"], zhou["squared_error"].fixed["M"]) == (1.0, 15.0)
    assert zhou["focal"].fixed["weight_decay"] == pytest.approx(5e-5) and not zhou["focal"].searched
    battash = study(["ce_el", "focal"], space="battash").spaces
    assert battash["ce_el"].searched["F"].choices == ("0", "0,0.5", "0-0.5")
    assert (battash["focal"].fixed["gamma"], battash["focal"].fixed["alpha"]) == (2.0, 0.25)


def test_a_loss_that_the_paper_does_not_have_keeps_its_default_space(study):
    assert study(["hinge"], space="zhou").spaces["hinge"] == study(["hinge"]).spaces["hinge"]


def test_a_loss_has_a_space_of_its_own_and_overrides_win(study):
    losses = [{"focal": {"space": "zhou", "gamma": {"low": 1, "high": 4}}}, "softmax"]
    spaces = study(losses, recipe={"learning_rate": 0.3}).spaces
    assert (spaces["focal"].searched["gamma"].low, spaces["focal"].searched["gamma"].high) == (1.0, 4.0)
    assert spaces["focal"].fixed["learning_rate"] == 0.3
    assert spaces["focal"].fixed["weight_decay"] == pytest.approx(5e-5)
    assert isinstance(spaces["softmax"].searched["weight_decay"], Real)
    mixed = study([{"focal": {"space": "default"}}], space="zhou").spaces["focal"]
    assert isinstance(mixed.searched["gamma"], Real)


def test_a_combination_takes_what_the_paper_says_of_its_members(study):
    space = study(["margin_softmax+large_margin"], space="kobayashi").spaces["margin_softmax+large_margin"]
    assert space.fixed["margin"] == 1.0 and len(space.searched["lam"].choices) == 9
    space = study(["center+large_margin"], space="kobayashi").spaces["center+large_margin"]
    assert len(space.searched["large_margin_lam"].choices) == 9 and isinstance(space.searched["center_lam"], Real)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"losses": ["softmax"], "space": "zhu"}, "my: space: unknown space 'zhu'; allowed: default, kornblith-imag"),
        ({"losses": [{"hinge": {"space": "zhou"}}]}, "my: losses.hinge.space: zhou has nothing for hinge"),
        ({"losses": ["softmax+focal"]}, "my: losses: 'softmax+focal': focal cannot be added to another loss"),
        ({"losses": ["dropout+center", "center+dropout"]}, "my: losses[1]: center+dropout stands twice"),
        ({"losses": ["softmax+dropout", "dropout"]}, "my: losses[1]: dropout stands twice"),
    ],
)
def test_bad_input(study, fields, says):
    with pytest.raises(InputError) as error:
        study(**fields)
    assert str(error.value).startswith(says)


@pytest.mark.parametrize("name", NAMED_SPACES)
def test_every_named_value_is_legal(study, name):
    made = study(list(NAMED_SPACES[name].losses), space=name)
    made.settle(10)
    for loss, space in made.spaces.items():
        for key, p in space.searched.items():
            for value in p.choices if isinstance(p, Choice) else ():
                own = space_of(loss).hyperparameters
                assert key not in own or check_hyperparameters(loss, {key: value})
        assert members_of(loss)[0] in SPACES
