"""Study files of any content: what is no study is refused with status 2 and one line, never with a traceback.

What is measured is that nothing hangs: the 3 s within which each is to be answered are not asserted, for machines are
noisy.
"""

import copy
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from losstune.search.study import load_study, shipped_studies
from losstune.spaces import InputError

GUARD = 120
TEXT = "data: digits\nnetwork: mlp\nlosses: [softmax, squared_error]\n"
FUZZ = settings(max_examples=80, deadline=None, derandomize=True, database=None,
                suppress_health_check=list(HealthCheck))  # fmt: skip

# What a study is made of, for mutations to be near to one.
WHOLE = {
    "name": "mine", "data": "digits", "network": "mlp", "metric": "accuracy", "baseline": "softmax",
    "split": {"validation": 0.15, "seed": 0}, "space": "default",
    "losses": ["softmax", {"label_smoothing": {"alpha": 0.1}}, {"focal": {"space": "zhou"}}, "sigmoid+cosine_softmax",
               {"large_margin": {"lam": {"low": 0.1, "high": 1.0, "log": True}}}, {"ce_el": {"F": ["0", "0-0.5"]}}],
    "recipe": {"epochs": 9, "batch_size": 64, "optimizer": "sgd", "momentum": 0.9, "schedule": {"steps": {
                   "at": [1, 3], "factor": 0.1, "warmup": 1}}, "tune": ["learning_rate"], "learning_rate": [0.1, 0.3],
               "weight_decay": {"low": 1e-5, "high": 1e-3, "log": True}, "average": {"decay": 0.9}, "clip_norm": 1.0,
               "mixup": 0.2, "augmentation": ["crop"], "class_weights": "balanced", "label_noise": 0.1,
               "train_examples": 0.5, "precision": "float32", "decay_norm": False},
    "search": {"method": "tpe", "trials": 4, "seeds": 2, "halving": {"first": 3, "factor": 3}},
    "confirm": {"seeds": 2, "train_on": "all", "alpha": 0.05, "rope": 0.1},
    "stop": {"hours": 1.5, "stalled_minutes": 5},
    "resources": {"cpus": 1, "gpus": 0, "max_lanes": 1, "members": 8, "backend": "auto", "compile": False},
}  # fmt: skip

names = st.sampled_from(["softmax", "focal", "gce", "alpha", "low", "high", "log", "default", "space", "coarse_to_fine",
                         "grid", "adamw", "constant", "warmup", "to", "rate", "resnet20", "small_cnn", "csv:x", "npz:",
                         "folder:", "npy:/", "a.py:f", "torchvision:x", "timm:", "cost:x", "nll", "balanced", "crop",
                         "kornblith-cifar10", "a/b", "../x", "softmax+softmax", "+", "", " ", "~", "null"])  # fmt: skip
numbers = st.one_of(st.integers(), st.floats(), st.sampled_from([
    0, 1, -1, 2**31, 2**32, 2**53, 2**63, 2**64, 10**15, 10**400, -(10**400), 1e-320, 1e308, -1e308, 1e-9,
    0.999999999999, 1000000, 123456789]))  # fmt: skip
texts = st.text(max_size=20) | st.text(st.characters(exclude_categories=[]), max_size=8)
scalars = st.none() | st.booleans() | numbers | names | texts
trees = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
    names | texts | st.sampled_from(list(WHOLE)), inner, max_size=4), max_leaves=12)  # fmt: skip


def places(tree, path=()) -> list[tuple]:
    """The path of every value in a tree."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(place for key, value in items for place in places(value, (*path, key)))]


PLACES = [place for place in places(WHOLE) if place]


@st.composite
def mutations(draw):
    """A whole study with one to three values replaced, keys added or taken out, or a value moved to another place."""
    study = copy.deepcopy(WHOLE)
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(PLACES))
        here = study
        for step in path:
            try:
                here = here[step]
            except (LookupError, TypeError):
                break
        kind = draw(st.sampled_from(["replace", "replace", "number", "name", "drop", "add"]))
        try:
            if kind == "drop":
                del here[last]
            elif kind == "add" and isinstance(here, dict):
                here[draw(names | texts)] = draw(trees)
            else:
                here[last] = draw({"number": numbers, "name": names}.get(kind, trees))
        except (LookupError, TypeError):
            continue  # an earlier mutation has taken the place away
    return study


def dump(tree) -> bytes:
    """As YAML: JSON is YAML, and holds what YAML's own writer would not write."""
    return json.dumps(tree, ensure_ascii=True).encode()


@pytest.fixture
def check(tmp_path, monkeypatch, losstune):
    """check(content, *arguments): the outcome of `losstune check` on it, which is a plan or one line of refusal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LOSSTUNE_DATA", raising=False)

    def run(content: bytes | None, *arguments: str):
        if content is not None:
            (tmp_path / "my.yaml").write_bytes(content)
        ended = losstune("check", "my.yaml", *arguments)
        hold(ended)
        return ended

    return run


def hold(ended) -> None:
    """A plan, or one short line."""
    if ended.status == 0:
        assert ended.err == "" and ended.out, ended
        return
    assert ended.status == 2, ended
    assert ended.err.startswith("losstune: ") and ended.err.count("\n") == 1 and ended.out == "", ended
    assert len(ended.err) < 3000, len(ended.err)


# --- anything ---


@FUZZ
@given(content=st.binary(max_size=200))
def test_any_bytes(check, content):
    """Mostly no text at all."""
    assert check(content).status == 2


@FUZZ
@given(text=st.text(alphabet="abn:,-[]{}&*!|>'\"#%@`?~ \n\t01.eE\\<=/é\x00\ufeff\u2028", max_size=60))
def test_any_text_of_yamls_own_characters(check, text):
    """Mostly broken YAML."""
    assert check(text.encode()).status == 2
    check((TEXT + text).encode())


@FUZZ
@given(tree=trees)
def test_any_tree(check, tree):
    """Sound YAML, but no study."""
    assert check(dump(tree)).status == 2


@FUZZ
@given(study=mutations())
def test_a_study_that_is_nearly_right(check, study):
    """Values of other types and sizes, keys that are unknown, missing or elsewhere."""
    check(dump(study))


@FUZZ
@given(study=mutations(), method=st.sampled_from(["grid", "coarse_to_fine", "random"]))
def test_a_nearly_right_study_that_plans_its_points(check, study, method):
    """The grids are laid out when the study is checked."""
    if isinstance(study.get("search"), dict):
        study["search"]["method"] = method
    check(dump(study))


@FUZZ
@given(loss=st.sampled_from(["label_smoothing", "ce_el", "large_margin_softmax", "squared_error", "mmc", "center"]),
       key=st.sampled_from(["alpha", "F", "m", "kappa", "C_mm", "learning_rate", "weight_decay", "space"]),
       wanted=trees | st.dictionaries(st.sampled_from(["low", "high", "log", "default"]), scalars, min_size=1),
       method=st.sampled_from(["tpe", "grid", "coarse_to_fine"]))  # fmt: skip
def test_spaces_of_wrong_types(check, loss, key, wanted, method):
    """Ranges, lists and values of one loss."""
    fields = {"data": "digits", "network": "mlp", "losses": ["softmax", {loss: {key: wanted}}],
              "search": {"method": method, "trials": 64}}  # fmt: skip
    check(dump(fields))


@FUZZ
@given(key=st.sampled_from([".".join(map(str, place)) for place in PLACES if all(isinstance(k, str) for k in place)])
       | texts, value=scalars.map(lambda value: json.dumps(value)) | texts)  # fmt: skip
def test_any_assignment(check, key, value):
    """--set takes a key and YAML; surrogates and NUL cannot be in a command's argument."""
    given_ = f"{key}={value}".replace("\x00", "").encode("utf-8", "replace").decode()
    check(TEXT.encode(), "--set", given_)


def test_shipped_studies_cut_and_flipped_anywhere(check):
    """A copy that was cut off, or a file with altered bytes."""
    draw, texts_ = random.Random(0), [path.read_bytes() for path in shipped_studies().values()]
    for _ in range(150):
        content = bytearray(draw.choice(texts_))
        if draw.random() < 0.4:
            del content[draw.randrange(len(content)) :]
        for _ in range(draw.randrange(4)):
            if content:
                content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        check(bytes(content))


# --- certain things ---

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(9)
)
MAPPING_BOMB = "a: &a {k: v}\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} {{{','.join(f'k{i}: *{chr(97 + n)}' for i in range(10))}}}\n" for n in range(9)
)


@pytest.mark.parametrize(
    "content",
    [
        BOMB, TEXT + BOMB, TEXT + BOMB.replace("a: &a", "recipe: &a", 1),
        TEXT.replace("[softmax, squared_error]", "&x [softmax, *x]"), "&x [*x]", "&x {data: *x}",
        TEXT + "recipe: &x {schedule: *x}\n", TEXT + "name: &n [*n]\n",
        BOMB + "data: *j\nnetwork: *j\nlosses: *j\n", MAPPING_BOMB + "recipe: *j\n",
        BOMB.replace("\n", "\n  ").join(["recipe:\n  ", "\n"]) + TEXT,
        TEXT + "recipe: {augmentation: &a [crop, &b [*a, *a]]}\n", TEXT + "split: {<<: {seed: 3}}\n", "*unknown\n",
    ],
)  # fmt: skip
def test_aliases(check, content):
    """Of aliases, of themselves: a few lines must not become billions of values."""
    assert check(content.encode()).status == 2


@pytest.mark.parametrize("opens", ["[", "{a: ", "- ", "? ", "!!str [", "- - ", "a:\n ", "&a ["])
@pytest.mark.parametrize("depth", [100, 3000, 100_000])
def test_deep_nesting(check, opens, depth):
    """Deeper than Python's stack."""
    assert check((TEXT + "recipe: " + opens * depth).encode()).status == 2
    assert check((opens * depth).encode()).status == 2


@pytest.mark.parametrize("depth", [30, 300, 3000])
def test_deep_nesting_that_is_closed(check, depth):
    """Sound YAML, in every place that takes anything."""
    deep = "[" * depth + "]" * depth
    for line in ("losses: [{focal: {gamma: %s}}]", "recipe: {schedule: %s}", "recipe: {augmentation: %s}",
                 "recipe: {learning_rate: %s}", "name: %s", "search: %s", "losses: %s"):  # fmt: skip
        text = "\n".join(row for row in TEXT.splitlines() if not row.startswith(line[:4])) + "\n"
        assert check((text + line % deep + "\n").encode()).status == 2
        check((text + line % ("{a: " * depth + "}" * depth) + "\n").encode())


LARGE = {
    "a list": "losses: [" + "softmax, " * 1_200_000 + "]",
    "a string": 'name: "' + "x" * 10_000_000 + '"',
    "a key": "x" * 10_000_000 + ": 1",
    "lines": "a: 1\n" * 2_000_000,
    "zeros": "\x00" * 10_000_000,
    "spaces": " " * 10_000_000,
    "a comment": "#" * 10_000_000,
    "a number": "1" * 10_000_000,
    "anchors": "".join(f"k{n}: &a{n} x\n" for n in range(600_000)),
}


@pytest.mark.parametrize("size", [10_000_000, 49_000])
@pytest.mark.parametrize("what", LARGE)
def test_large_files(check, what, size):
    """Of ten megabytes, of one, and as large as is still read."""
    assert check((TEXT.replace("losses: [softmax, squared_error]\n", "") + LARGE[what]).encode()[:size]).status == 2


ODD = [
    "9" * 400, "-" + "9" * 400, "9" * 5000, "1e400", "-1e400", ".inf", "-.inf", ".nan", "1e-400", "0x10", "0b1", "1_0",
    "1:30", "2001-01-01", "!!python/object/apply:os.system [ls]", "!!binary aGk=", "!!set {a, b}", "!!omap [a: 1]",
    "!!timestamp 2001-01-01", "!!int x", "!!float x", "!!bool x", "!!null x", "!mine x", "null", "[]", "{}",
    '"\\ud800"', '"\\0"', "'\u202e'", "\u00a0", "yes", "[null]", "{null: null}", "{1: 2}", "{[a]: b}", "|\n  x\n",
]  # fmt: skip


@pytest.mark.parametrize("value", ODD)
def test_odd_values_everywhere(check, value):
    """In the place of a sixth of the fields and parts, another sixth for other values."""
    named = [place for place in PLACES if not any(isinstance(key, int) for key in place)]
    for place in named[ODD.index(value) % 6 :: 6]:
        text = "".join(f"{'  ' * depth}{key}:{'' if depth < len(place) - 1 else ' ' + value}\n"
                       for depth, key in enumerate(place))  # fmt: skip
        own = "".join(line for line in TEXT.splitlines(True) if not line.startswith(place[0] + ":"))
        check((own + text).encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    ("content", "accepted"),
    [
        (b"\xef\xbb\xbf" + TEXT.encode(), True), (TEXT.replace("\n", "\r\n").encode(), True),
        (TEXT.encode("utf-16"), False), (TEXT.encode("utf-32"), False), (TEXT.encode() + b"\x00", False),
        (TEXT.encode() + b"name: \xff\n", False), (TEXT.encode() + b"\tname: x\n", False),
        (TEXT.encode() + b"recipe:\n\tepochs: 3\n", False), (TEXT.encode() + b"data: digits\n", False),
        (TEXT.encode() + b"recipe: {epochs: 3, epochs: 4}\n", False), (TEXT.encode() + b"---\n" + TEXT.encode(), False),
        (b"%YAML 9.9\n---\n" + TEXT.encode(), False), (b"", False), (b"---\n", False), (b"null", False), (b"[]", False),
        (TEXT.encode() + "größe: 3\n".encode(), False), (TEXT.encode() + "name: größe\n".encode(), False),
        (TEXT.encode() + b"name: a/b\n", False), (TEXT.encode() + b"name: ../b\n", False),
        (TEXT.encode() + b"name: ..\n", False), (TEXT.encode() + b"name: a\\b\n", False),
        (TEXT.encode() + b"name: ''\n", False), (TEXT.encode() + b'name: "a\\n"\n', False),
        (TEXT.encode() + b"name: " + b"x" * 81, False), (TEXT.encode() + b"name: /etc\n", False),
        (TEXT.encode() + b'? |\n  data\n: digits\n', False),
    ],
)  # fmt: skip
def test_encodings_keys_and_names(check, content, accepted):
    """A byte order mark and Windows' line ends are fine; a name is one folder's name."""
    assert (check(content).status == 0) == accepted


@pytest.mark.parametrize("study", ["x" * 5000, "x\ny", "/dev/null", "/dev/zero", "/proc/self/mem", "", ".", "/", "~",
                                   "\udcff", "-", "-h ", "é" * 300])  # fmt: skip
@pytest.mark.parametrize("command", ["check", "run", "status", "report", "sync", "doctor"])
def test_studies_that_are_no_files(losstune, tmp_path, monkeypatch, command, study):
    """Names too long for a disk, devices, folders."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(TEXT)
    ended = losstune(command, "--", study)
    assert ended.status == 2 and "Traceback" not in ended.err, ended
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("part", ["search: {method: grid, trials: 999999999}", "recipe: {epochs: 999999999}",
                                  "confirm: {seeds: 999999999}"])  # fmt: skip
def test_numbers_that_no_machine_could_work_off(check, part):
    assert check((TEXT + part).encode()).status == 2


# --- as a real process ---


@pytest.mark.parametrize("content", [TEXT + "recipe: " + "[" * 50_000, TEXT + 'name: "\\ud800"\n'])
def test_a_real_command(tmp_path, content):
    """With no terminal and a plain locale, where characters cannot be printed as they are."""
    (tmp_path / "my.yaml").write_text(content)
    command = [sys.executable, "-c", "from losstune.search.cli import main; main()", "run", "my.yaml"]
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PYTHONPATH": ":".join(sys.path), "HOME": str(tmp_path)}
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=GUARD, env=environment)
    assert ended.returncode == 2 and ended.stdout == b"", ended
    assert ended.stderr.startswith(b"losstune: ") and ended.stderr.count(b"\n") == 1, ended
    assert [path.name for path in tmp_path.iterdir()] == ["my.yaml"]


# --- the Python interface ---


@FUZZ
@given(study=mutations())
def test_load_study_raises_nothing_else(tmp_path_factory, study):
    """InputError, with one line."""
    path = tmp_path_factory.mktemp("study") / "my.yaml"
    path.write_bytes(dump(study))
    try:
        load_study(path)
    except InputError as error:
        assert len(str(error).splitlines()) <= 1 or "\n" not in " ".join(str(error).split())


def test_what_is_mutated_here_is_a_study(check):
    """Else the mutations would be of something that is refused anyway; and they are not all refused."""
    assert check(dump(WHOLE)).status == 0
    assert Path("my.yaml").is_file()
