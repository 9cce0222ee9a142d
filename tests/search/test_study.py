"""The study file: what it is read as, and every way to get it wrong, in one line that says what is allowed."""

from pathlib import Path

import pytest

from losstune.search.record_part import recording
from losstune.search.study import Study, load_study, make_study
from losstune.spaces import SPACES, InputError
from losstune.trainables.features import Recording

BASE = "data: digits\nnetwork: mlp\n"


@pytest.fixture
def load(tmp_path):
    """load(text, *assignments): a study from the text of its file."""

    def read(text: str, *assignments: str, base: str = BASE) -> Study:
        (tmp_path / "my.yaml").write_text(base + text)
        return load_study(tmp_path / "my.yaml", assignments)

    return read


@pytest.fixture
def problem(load):
    """problem(text, *assignments): the one line that says what is wrong, without the file's name."""

    def fails(text: str, *assignments: str, base: str = BASE) -> str:
        with pytest.raises(InputError) as error:
            load(text, *assignments, base=base)
        line = str(error.value)
        assert "\n" not in line and line.strip()
        return line

    return fails


# --- what is read ---


def test_only_data_network_and_losses_are_needed(load):
    """Everything else has a default."""
    study = load("losses: [softmax]\n")
    assert (study.name, study.data, study.network, study.metric) == ("my", "digits", "mlp", "accuracy")
    assert study.search.trials == 16 and study.search.seeds == 3 and study.confirm.seeds == 10


@pytest.mark.parametrize(("text", "wanted"), [
    ("", Recording(1000, 256, 10_000)), ("record: null", None),
    ("record: {features: all}", Recording(None, 256, 10_000)),
    ("record: {features: null, layers: 0, train_examples: 5}", Recording(0, 0, 5)),
])  # fmt: skip
def test_what_is_recorded(load, text, wanted):
    """0 and null are none, all is all."""
    assert recording(load(f"losses: [softmax]\n{text}\n").record) == wanted
    assert bool(Recording(0, 0, 0)) is False and bool(Recording(None, 0, 0)) is True


@pytest.mark.parametrize(("text", "line"), [
    ("features: -1", "record.features: -1: should be a whole number, 0 for none, or all"),
    ("features: most", "record.features: 'most': should be a whole number, 0 for none, or all"),
    ("layers: all", "record.layers: 'all': should be a whole number up to 4096, 0 for none"),
    ("layers: 5000", "record.layers: 5000: should be a whole number up to 4096, 0 for none"),
    ("train_examples: true", "record.train_examples: True: should be a whole number, 0 for none"),
])  # fmt: skip
def test_what_cannot_be_recorded(problem, text, line):
    assert problem(f"losses: [softmax]\nrecord: {{{text}}}\n").endswith(line)


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "1.0e-3", "0.001", ".001", "+1e-3"])
def test_a_number_in_any_notation_is_a_number(load, text):
    """YAML 1.1 would read 1e-3 as text."""
    study = load(f"losses: [{{softmax: {{learning_rate: {text}}}}}]")
    assert study.spaces["softmax"].fixed["learning_rate"] == 0.001


def test_whole_numbers_with_a_leading_zero_are_decimal(load):
    """YAML 1.1 would read 010 as 8."""
    assert load("losses: [softmax]\nsearch: {trials: 010}").search.trials == 10


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('[0, "0,0.5"]', ("0", "0,0.5")),
        ("[0-0.5, 0]", ("0-0.5", "0")),
        ('["0", "0,0.5", 0-0.5]', ("0", "0,0.5", "0-0.5")),
        ("[0, 0.25]", ("0", 0.25)),
    ],
)
def test_schedules_come_out_as_they_are_named(load, written, read):
    """F is a number or the name of a schedule, and 0 is both."""
    assert load(f"losses: [{{ce_el: {{F: {written}}}}}]").spaces["ce_el"].searched["F"].choices == read


@pytest.mark.parametrize("written", ["0-0.5", '"0,0.5"', "0", "0.25"])
def test_one_schedule_is_fixed(load, written):
    """A single value is not searched."""
    space = load(f"losses: [{{ce_el: {{F: {written}}}}}]").spaces["ce_el"]
    assert "F" not in space.searched and str(space.fixed["F"]) == written.strip('"')


@pytest.mark.parametrize("text", ["no", "on", "off", "yes", "y", "No", "ON"])
def test_english_words_are_text(load, text):
    """YAML 1.1 would read them as booleans; a name may well be "on"."""
    assert load(f"losses: [softmax]\nname: {text}").name == text


def test_a_time_is_text(problem):
    """YAML 1.1 would read 1:30 as 90."""
    assert "search.trials: '1:30'" in problem("losses: [softmax]\nsearch: {trials: 1:30}")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    """Windows editors write one."""
    (tmp_path / "my.yaml").write_bytes(b"\xef\xbb\xbf" + (BASE + "losses: [softmax]").encode())
    assert load_study(tmp_path / "my.yaml").data == "digits"


def test_halving_may_be_off(load):
    """Then a trial reports at its end only."""
    assert load("losses: [softmax]\nsearch: {halving: null}").rungs() == [27]


@pytest.mark.parametrize(
    ("epochs", "first", "factor", "rungs"),
    [(27, 3, 3, [3, 9, 27]), (20, 3, 3, [3, 9, 20]), (9, 9, 3, [9]), (10, 1, 2, [1, 2, 4, 8, 10]), (1, 1, 4, [1])],
)
def test_rungs_end_with_the_full_length(load, epochs, first, factor, rungs):
    """The first rung, times the factor, below the full length; then that."""
    text = f"losses: [softmax]\nrecipe: {{epochs: {epochs}}}\nsearch: {{halving: {{first: {first}, factor: {factor}}}}}"
    assert load(text).rungs() == rungs


@pytest.mark.parametrize("name", ["digits", "fashion", "cifar10"])
def test_shipped_studies_load_by_name_from_anywhere(name, tmp_path, monkeypatch):
    """What `losstune run digits` runs."""
    monkeypatch.chdir(tmp_path)
    assert load_study(name).name == name


# --- spaces of the losses ---


def test_a_value_fixes_a_hyperparameter(load):
    """It is in every configuration and not searched."""
    space = load("losses: [{cosine_softmax: {tau: 0.1}}]").spaces["cosine_softmax"]
    assert space.fixed["tau"] == 0.1 and set(space.searched) == {"learning_rate", "weight_decay"}


def test_a_range_narrows_and_keeps_a_default_that_lies_in_it(load):
    """The source's default is asked first wherever the range allows."""
    tau = load("losses: [{cosine_softmax: {tau: {low: 0.05, high: 0.2}}}]").spaces["cosine_softmax"].searched["tau"]
    assert (tau.low, tau.high, tau.default, tau.log) == (0.05, 0.2, 0.08, True)


def test_a_range_without_the_default_gets_one_inside(load):
    """What is asked first must be in the range."""
    tau = load("losses: [{cosine_softmax: {tau: {low: 0.2, high: 0.4}}}]").spaces["cosine_softmax"].searched["tau"]
    assert 0.2 < tau.default < 0.4


def test_a_range_may_name_its_default_and_scale(load):
    """All four parts of a range are the user's."""
    text = "losses: [{cosine_softmax: {tau: {low: 0.1, high: 0.4, log: false, default: 0.3}}}]"
    tau = load(text).spaces["cosine_softmax"].searched["tau"]
    assert (tau.low, tau.high, tau.log, tau.default) == (0.1, 0.4, False, 0.3)


def test_a_list_is_searched_as_it_stands(load):
    """Several values are the choices."""
    space = load("losses: [{label_smoothing: {alpha: [0.2, 0.05, 0.1]}}]").spaces["label_smoothing"]
    assert space.searched["alpha"].choices == (0.2, 0.05, 0.1) and space.default()["alpha"] in (0.2, 0.05, 0.1)


def test_a_list_of_one_is_fixed(load):
    """There is nothing to search."""
    assert load("losses: [{label_smoothing: {alpha: [0.2]}}]").spaces["label_smoothing"].fixed["alpha"] == 0.2


def test_the_recipe_narrows_the_learning_rate_of_every_loss(load):
    """One line for all losses."""
    study = load("losses: [softmax, sigmoid]\nrecipe: {learning_rate: {low: 0.01, high: 0.1}, weight_decay: 0}")
    for space in study.spaces.values():
        assert (space.searched["learning_rate"].low, space.searched["learning_rate"].high) == (0.01, 0.1)
        assert space.fixed["weight_decay"] == 0


def test_a_loss_has_the_last_word_over_the_recipe(load):
    """What is said of one loss is more particular."""
    study = load("losses: [softmax, {sigmoid: {learning_rate: 0.5}}]\nrecipe: {learning_rate: 0.1}")
    assert [space.fixed["learning_rate"] for space in study.spaces.values()] == [0.1, 0.5]


def test_what_is_not_tuned_stays_at_each_losss_own_default(load):
    """`tune: []` searches the losses' own hyperparameters only."""
    study = load("losses: [softmax, label_smoothing]\nrecipe: {tune: []}")
    assert not study.spaces["softmax"].searched and set(study.spaces["label_smoothing"].searched) == {"alpha"}
    assert study.spaces["softmax"].fixed["learning_rate"] == SPACES["softmax"].defaults["learning_rate"]


# --- --set ---


def test_set_changes_adds_and_reaches_into_parts(load):
    """Any field, dotted, as YAML."""
    study = load("losses: [softmax]\nrecipe: {epochs: 9}", "recipe.epochs=18", "search.halving.factor=2",
                 "losses=[sigmoid,{ce_el: {F: 0-0.5}}]", "confirm.alpha=1e-2")  # fmt: skip
    assert study.recipe.epochs == 18 and study.search.halving.factor == 2 and list(study.spaces) == ["sigmoid", "ce_el"]
    assert study.confirm.alpha == 0.01


def test_set_value_may_hold_an_equals_sign(load):
    """Only the first one divides."""
    assert load("losses: [softmax]", "name=a.b").name == "a.b"


@pytest.mark.parametrize(
    ("assignment", "line"),
    [
        ("search.trials", "--set search.trials: no '='; allowed: key=value"),
        ("=3", "--set =3: no '='; allowed: key=value"),
        ("data.x=3", "--set data.x: data has no fields"),
        ("search.trials=[", "--set search.trials"),
        ("search.trial=3", "search.trial: unknown key; allowed: method, trials, seeds, halving"),
        ("search.trials=many", "search.trials: 'many'"),
    ],
)
def test_wrong_assignments(problem, assignment, line):
    """They are refused like wrong lines of the file."""
    assert line in problem("losses: [softmax]", assignment)


# --- what is refused, and how ---

TOP = ("name, data, network, metric, baseline, split, space, losses, recipe, search, searches, confirm, record, stop, "
       "resources")  # fmt: skip


@pytest.mark.parametrize(
    ("text", "field", "allowed"),
    [
        ("epochs: 3", "epochs", TOP),
        ("split: {share: 0.1}", "split.share", "validation, seed"),
        ("recipe: {epoch: 3}", "recipe.epoch", "epochs, batch_size"),
        ("search: {trial: 3}", "search.trial", "method, trials, seeds, halving"),
        ("search: {halving: {rung: 3}}", "search.halving.rung", "first, factor"),
        ("confirm: {seed: 3}", "confirm.seed", "seeds, train_on, alpha, rope"),
        ("record: {layer: 1}", "record.layer", "features, layers, train_examples"),
        ("stop: {hour: 1}", "stop.hour", "hours"),
        ("resources: {gpu: 1}", "resources.gpu", "cpus, gpus"),
    ],
)
def test_an_unknown_key_at_any_level_names_the_known_ones(problem, text, field, allowed):
    """A misspelt key must not silently leave a default."""
    line = problem(f"losses: [softmax]\n{text}\n")
    assert f"my.yaml: {field}: unknown key; allowed: " in line and allowed in line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("losses: [{label_smoothing: {tau: 1}}]", "losses.label_smoothing.tau: unknown hyperparameter; allowed: "),
        ("losses: [{cosine_softmax: {tau: {min: 1}}}]", "tau.min: unknown key; allowed: low, high, log, default"),
        ("losses: [softmaxx]", "losses: unknown loss 'softmaxx'; allowed: softmax, label_smoothing"),
        ("losses: [softmax, sigmoid, softmax]", "losses[2]: softmax stands twice"),
        ("losses: [softmax, {softmax: {learning_rate: 0.1}}]", "losses[1]: softmax stands twice"),
        ("losses: [3]", "losses[0]: 3 is not a loss; allowed: a name"),
        ("losses: [null]", "losses[0]: None is not a loss; allowed: a name"),
        ("losses: [{softmax: {}, sigmoid: {}}]", "losses[0]: "),
        ("losses: [{label_smoothing: 0.1}]", "losses[0]: "),
        ("losses: []", "losses: "),
        ("losses: softmax", "losses: 'softmax'"),
        ("losses: {softmax: {}}", "losses: "),
        ("losses: &a [*a]", "line 3: an alias of what it stands in; allowed: "),
        ("losses: null", "losses: "),
    ],
)
def test_wrong_losses(problem, text, line):
    """Which entry, what of it, and what there is."""
    assert line in problem(text)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("{low: 0.3, high: 0.1}", "low (0.3) must be below high (0.1)"),
        ("{low: 0.1, high: 0.1}", "low (0.1) must be below high (0.1)"),
        ("{low: 0, high: 0.1, log: true}", "alpha.low: 0 cannot be searched on a log scale; allowed: above 0"),
        ("{low: 0.1, high: 1}", "alpha.high: 1 is out of bounds; allowed: [0, 1)"),
        ("{low: -0.1, high: 0.2}", "alpha.low: -0.1 is out of bounds; allowed: [0, 1)"),
        ("{low: a, high: 0.2}", "alpha.low: 'a' is not a number; allowed: [0, 1)"),
        ("{low: 0.1, high: 0.2, log: 1}", "alpha.log: 1 is not allowed; allowed: true or false"),
        ("{low: 0.1, high: 0.2, default: 0.3}", "alpha.default: 0.3 is outside the range 0.1 to 0.2"),
        ("[]", "alpha: an empty list; allowed: values"),
        ("[0.1, 1.5]", "alpha: 1.5 is out of bounds; allowed: [0, 1)"),
        ("1", "alpha: 1 is out of bounds; allowed: [0, 1)"),
        (".nan", "alpha: nan is out of bounds; allowed: [0, 1)"),
        (".inf", "alpha: inf is out of bounds; allowed: [0, 1)"),
        ("true", "alpha: True is not a number; allowed: [0, 1)"),
        ("'0.1'", "alpha: '0.1' is not a number; allowed: [0, 1)"),
    ],
)
def test_wrong_hyperparameters(problem, value, line):
    """A bound is named with the value that breaks it."""
    found = problem(f"losses: [{{label_smoothing: {{alpha: {value}}}}}]")
    assert "my.yaml: losses.label_smoothing.alpha" in found and line in found


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("losses: [{ce_el: {F: 0-0.6}}]", "losses.ce_el.F: '0-0.6' is not allowed; allowed: one of"),
        ("losses: [{ce_el: {F: 0.6}}]", "losses.ce_el.F: 0.6 is not allowed; allowed: one of"),
        ("losses: [{ce_el: {F: {low: 0, high: 0.5}}}]", "losses.ce_el.F: has no range; allowed: one of"),
        ("losses: [{label_smoothing: {scaled: 1}}]", "scaled: 1 is not allowed; allowed: true or false"),
        ("losses: [softmax]\nrecipe: {learning_rate: 0}", "recipe.learning_rate: 0 is out of bounds"),
        ("losses: [softmax]\nrecipe: {weight_decay: -1}", "recipe.weight_decay: -1 is out of bounds"),
    ],
)
def test_other_wrong_hyperparameters(problem, text, line):
    """Choices, switches, and those of the recipe."""
    assert line in problem(text)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("search: {trials: 0}", "search.trials: 0"),
        ("search: {trials: -1}", "search.trials: -1"),
        ("search: {trials: 2.5}", "search.trials: 2.5"),
        ("search: {trials: true}", "search.trials: True"),
        ("search: {trials: '3'}", "search.trials: '3'"),
        ("search: {trials: null}", "search.trials: None"),
        ("search: {seeds: 0}", "search.seeds: 0"),
        ("confirm: {seeds: 0}", "confirm.seeds: 0"),
        ("confirm: {alpha: 0}", "confirm.alpha: 0"),
        ("confirm: {alpha: .nan}", "confirm.alpha: nan"),
        ("confirm: {rope: -0.1}", "confirm.rope: -0.1"),
        ("confirm: {rope: .inf}", "confirm.rope: inf"),
        ("confirm: {train_on: test}", "confirm.train_on: 'test'"),
        ("split: {validation: 0}", "split.validation: 0"),
        ("split: {validation: 1}", "split.validation: 1"),
        ("split: {seed: -1}", "split.seed: -1"),
        ("split: 0.1", "split: 0.1"),
        ("recipe: {momentum: 1}", "recipe.momentum: 1"),
        ("recipe: {optimizer: adam}", "recipe.optimizer: 'adam'"),
        ("recipe: {class_weights: [1, 0]}", "recipe.class_weights"),
        ("recipe: {class_weights: heavy}", "recipe.class_weights"),
        ("recipe: {tune: [tau]}", "recipe.tune"),
        ("recipe: {precision: float16}", "recipe.precision: 'float16'"),
        ("recipe: {augmentation: no}", "recipe.augmentation: 'no'"),
        ("search: {method: bayes}", "search.method: 'bayes'"),
        ("search: {halving: {factor: 1}}", "search.halving.factor: 1"),
        ("search: {halving: {first: 30}}", "search.halving.first: 30 is beyond recipe.epochs; allowed: 1 to 27"),
        ("recipe: {epochs: 2}", "search.halving.first: 3 is beyond recipe.epochs; allowed: 1 to 2"),
        ("stop: {hours: 0}", "stop.hours: 0"),
        ("stop: {hours: .nan}", "stop.hours: nan"),
        ("resources: {cpus: 0}", "resources.cpus: 0"),
        ("resources: {gpus: -1}", "resources.gpus: -1"),
        ("resources: {max_lanes: 0}", "resources.max_lanes: 0"),
        ("resources: {memory_gib: 0}", "resources.memory_gib: 0"),
        ("resources: {accelerator_type: 'A 100'}", "resources.accelerator_type: 'A 100'"),
        ("baseline: sigmoid", "baseline: 'sigmoid' is not a loss of the study; allowed: softmax"),
        ("metric: speed", "metric: unknown metric 'speed'; allowed: accuracy"),
        ("metric: [accuracy]", "metric: ['accuracy']"),
        ("name: ../up", "name: '../up'"),
        ("name: ''", "name: ''"),
    ],
)
def test_wrong_values(problem, text, field):
    """Types and bounds of every field."""
    assert f"my.yaml: {field}" in problem(f"losses: [softmax]\n{text}\n")


@pytest.mark.parametrize("missing", ["data", "network", "losses"])
def test_missing_fields(problem, missing):
    """Those without a default are asked for by name."""
    fields = {"data": "digits", "network": "mlp", "losses": "[softmax]"}
    del fields[missing]
    line = problem("\n".join(f"{key}: {value}" for key, value in fields.items()), base="")
    assert f"my.yaml: {missing}: missing" in line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("losses: [softmax]\nlosses: [sigmoid]", "my.yaml, line 4: the key 'losses' stands twice"),
        ("losses: [{softmax: {learning_rate: 0.1, learning_rate: 0.2}}]", "line 3: the key 'learning_rate' stands"),
    ],
)
def test_no_key_stands_twice(problem, text, line):
    """YAML would silently take the second."""
    assert line in problem(text)


@pytest.mark.parametrize("key", ["3", "true", "null", "1.5", "? [a]\n", "? {a: b}\n"])
def test_keys_are_names(problem, key):
    """Any other key is refused, with its line."""
    assert "my.yaml, line 4" in problem(f"losses: [softmax]\n{key}: 1\n")


@pytest.mark.parametrize(
    "text",
    ["losses: [softmax", "losses: *nothing", "a: b: c", "\tlosses: []", "data: !!python/object:os.system {}",
     "losses: !!bool maybe", "losses: !!timestamp never", "losses: !!int x"],
)  # fmt: skip
def test_what_is_not_yaml(problem, text):
    """The line of the file, and what is wrong there."""
    assert "my.yaml" in problem(text, base="")


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "softmax", "3"])
def test_a_study_is_a_mapping(problem, text):
    """An example says how it looks."""
    assert "my.yaml: holds no fields; allowed: a mapping such as 'data: digits'" in problem(text, base="")


def test_a_missing_study_names_the_shipped_ones(tmp_path):
    """They are what most people mean."""
    with pytest.raises(InputError, match="nowhere: no such study file; allowed: a path, or one of .*digits"):
        load_study("nowhere")


def test_relative_files_are_found_beside_the_study_file(load, tmp_path, monkeypatch):
    """Wherever the command is called from."""
    (tmp_path / "net.py").write_text("def build(shape, classes): ...\n")
    monkeypatch.chdir(Path("/"))
    assert load("losses: [softmax]", "network=net.py:build").sources == {"network": (tmp_path / "net.py").read_text()}


# --- planned looks ---


def with_confirm(tmp_path, confirm, *overrides):
    (tmp_path / "my.yaml").write_text(f"data: digits\nnetwork: mlp\nlosses: [softmax]\nconfirm: {confirm}\n")
    return load_study(tmp_path / "my.yaml", overrides)


def test_a_list_of_seeds_is_a_plan(tmp_path):
    study = with_confirm(tmp_path, "{seeds: [10, 20, 40]}")
    assert (study.confirm.seeds, study.confirm.looks, study.confirm.stages) == (40, (10, 20, 40), [10, 20, 40])
    for plain in ("{seeds: 10}", "{seeds: [10]}", "{}"):
        confirm = with_confirm(tmp_path, plain).confirm
        assert (confirm.seeds, confirm.looks, confirm.stages) == (10, (), [10])


@pytest.mark.parametrize(
    ("override", "seeds", "looks", "stages"),
    [
        ("confirm.seeds=20", 20, (10, 20, 40), [10, 20]),
        ("confirm.seeds=15", 15, (10, 20, 40), [10, 15]),
        ("confirm.seeds=60", 60, (10, 20, 40), [10, 20, 40, 60]),
        ("confirm.seeds=[5, 6]", 6, (5, 6), [5, 6]),
        ("confirm.seeds=[20]", 20, (), [20]),
    ],
)
def test_a_number_of_seeds_leaves_the_plan(tmp_path, override, seeds, looks, stages):
    """And so does the study that is made of its fields again, as a ledger and a cluster do."""
    study = with_confirm(tmp_path, "{seeds: [10, 20, 40], alpha: 0.1}", override)
    for one in (study, make_study(study.fields, "again", tmp_path)):
        assert (one.confirm.seeds, one.confirm.looks, one.confirm.stages) == (seeds, looks, stages)
        assert one.confirm.alpha == 0.1


def test_a_study_up_to_a_look(tmp_path):
    study = with_confirm(tmp_path, "{seeds: [10, 20, 40], alpha: 0.1}")
    first = study.up_to(10)
    for one in (first, make_study(first.fields, "again", tmp_path)):
        assert (one.confirm.seeds, one.confirm.looks, one.confirm.alpha) == (10, (10, 20, 40), 0.1)
    assert first.spaces == study.spaces and first.where == study.where and study.confirm.seeds == 40


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ("[20, 10]", "confirm.seeds: [20, 10] are no planned looks; allowed: rising numbers of seeds from 2 on"),
        ("[10, 10]", "confirm.seeds: [10, 10] are no planned looks"),
        ("[1, 10]", "confirm.seeds: [1, 10] are no planned looks"),
        ("[]", "confirm.seeds: []"),
        ("[2, 3.5]", "confirm.seeds: 3.5"),
        ("[true, 3]", "confirm.looks.0: True"),
        ("[[2], [3]]", "confirm.seeds: [3]"),
        ("[2, 3], looks: [2, 3]", "confirm.seeds: [2, 3]"),
    ],
)
def test_what_is_no_plan_is_refused(tmp_path, seeds, said):
    with pytest.raises(InputError) as error:
        with_confirm(tmp_path, f"{{seeds: {seeds}}}")
    assert said in str(error.value) and "\n" not in str(error.value)
