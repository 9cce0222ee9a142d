"""Bad input to `losstune run`: status 2, one line that names file, field, problem and what is allowed, nothing else."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TEXT = "data: digits\nnetwork: mlp\nlosses: [softmax, squared_error]\n"
RNG = np.random.default_rng(0)


def arrays(**changes) -> dict:
    """Data of 3 classes that can be trained on, changed where a test wants them wrong."""
    good = {"x_train": RNG.normal(size=(60, 4)), "y_train": np.arange(60) % 3,
            "x_test": RNG.normal(size=(6, 4)), "y_test": np.arange(6) % 3}  # fmt: skip
    return {name: array for name, array in (good | changes).items() if array is not None}


def images(**changes) -> dict:
    return arrays(x_train=RNG.random((60, 8, 8)), x_test=RNG.random((6, 8, 8)), **changes)


def with_nan(x: np.ndarray) -> np.ndarray:
    x[7, 2, 2] = np.nan
    return x


@pytest.fixture
def refused(tmp_path, monkeypatch, losstune):
    """refused(text, *arguments, files): the one line, after `losstune run my.yaml` was refused as it must be.

    files: by name their text, bytes or, for .npz, arrays.
    """

    def run(text: str | None, *arguments: object, files: dict | None = None, study: str = "my.yaml") -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("LOSSTUNE_DATA", raising=False)
        for name, content in {**({"my.yaml": text} if text is not None else {}), **(files or {})}.items():
            write(tmp_path / name, content)
        before = sorted(tmp_path.rglob("*"))
        ended = losstune("run", study, "--out", tmp_path / "runs", *arguments)
        assert ended.status == 2, ended
        assert ended.err.startswith("losstune: ") and ended.err.count("\n") == 1 and ended.out == "", ended
        assert sorted(tmp_path.rglob("*")) == before, "something was written"
        return ended.err

    return run


def write(path: Path, content: str | bytes | dict) -> None:
    if isinstance(content, dict):
        np.savez(path, **content)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


# --- the study file ---


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT + "epochs: 3\n", "my.yaml: epochs: unknown key; allowed: "),
        (TEXT + "search: {trials: many}\n", "my.yaml: search.trials: 'many'"),
        (TEXT.replace("softmax", "softmix"), "my.yaml: losses: unknown loss 'softmix'; allowed: softmax, "),
        (TEXT.replace("mlp", "resnet"), "network: unknown network 'resnet'; allowed: mlp, "),
        (TEXT.replace("digits", "mnist"), "data: unknown data set 'mnist'; allowed: digits, "),
        (TEXT.replace("softmax", "{label_smoothing: {alpha: 1}}"), "alpha: 1 is out of bounds; allowed: [0, 1)"),
        (TEXT + "confirm: {seeds: 0}\n", "my.yaml: confirm.seeds: 0"),
        (TEXT + "search: {seeds: 0}\n", "my.yaml: search.seeds: 0"),
        (TEXT + "split: {validation: 0.001}\n", "split.validation: 0.001 leaves class"),
        (TEXT + "split: {validation: 0.999}\n", "split.validation: 0.999 leaves class"),
        (TEXT + "recipe: {batch_size: 5000}\n", "my.yaml: recipe.batch_size: 5000 is more than the 1221 training"),
        (TEXT + "recipe: {class_weights: [1, 2]}\n", "my.yaml: recipe.class_weights: 2 weights for 10 classes"),
        (TEXT + "metric: nll\n", "my.yaml: metric: nll is not defined for squared_error; allowed: "),
        (TEXT + "metric: cost:none.csv\n", "metric: there is no file none.csv; allowed: "),
        (TEXT + "baseline: sigmoid\n", "my.yaml: baseline: 'sigmoid' is not a loss of the study; allowed: softmax"),
        (TEXT + "losses: [\n", "my.yaml, line"),
        (TEXT + "resources: {cpus: 4096}\n", "my.yaml: resources.cpus: 4096 is more than this machine's"),
        (TEXT + "resources: {gpus: 64}\n", "my.yaml: resources.gpus: 64 is more than this machine's"),
        (TEXT + "resources: {memory_gib: 99999}\n", "my.yaml: resources.memory_gib: 99999 is more than this machine's"),
        (TEXT + "resources: {backend: grouped}\n", "resources.backend: grouped cannot compute mlp; allowed: auto"),
        (TEXT + "resources: {backend: fast}\n", "my.yaml: resources.backend: 'fast': should be 'auto', 'batched'"),
        (TEXT + "resources: {backend: batched, compile: true}\n", "resources.compile: batched networks have nothing"),
        (TEXT.replace("mlp", "torchvision:resnet18x"), "network: torchvision"),
        (TEXT + "recipe: {augmentation: cifar_autoaugment}\n", "recipe.augmentation.autoaugment: is for colour images"),
        (b"\x80\x00\xff" * 50, "my.yaml: not UTF-8 text; allowed: a study file"),
        ("", "my.yaml: holds no fields; allowed: "),
    ],
)
def test_a_wrong_study_file(refused, text, said):
    """Everything that the file alone, or the embedded data, shows."""
    assert said in refused(text)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("digits", "mnist"), ("digits", "npz:none.npz"), ("digits", "none.py:load"), ("mlp", "resnet"),
     ("mlp", "none.py:build"), ("squared_error]", "squared_error]\nsplit: {validation: 0.001}"),
     ("squared_error]", "squared_error]\nmetric: none.py:score")],
)  # fmt: skip
def test_whatever_is_wrong_the_study_file_is_named(refused, right, wrong):
    """In a folder of studies "data: unknown data set" alone does not say where to look."""
    assert refused(TEXT.replace(right, wrong)).startswith("losstune: my.yaml: ")


def test_a_study_that_is_a_folder(refused, tmp_path):
    """It is not a file, and no shipped study."""
    (tmp_path / "studies").mkdir()
    assert "studies: no such study file; allowed: " in refused(None, study="studies")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seeds", "0"], "confirm.seeds: 0"),
        (["--trials", "0"], "search.trials: 0"),
        (["--hours", "-1"], "stop.hours: -1"),
        (["--hours", "nan"], "stop.hours: "),
        (["--set", "recipe.epochs"], "--set recipe.epochs: no '='"),
    ],
)
def test_wrong_options(refused, arguments, said):
    """Options are held to the same bounds as the file's fields."""
    assert said in refused(TEXT, *arguments)


def test_an_out_that_is_a_file(tmp_path, losstune):
    """--out is the user's input as well."""
    write(tmp_path / "my.yaml", TEXT)
    ended = losstune("run", tmp_path / "my.yaml", "--out", tmp_path / "my.yaml")
    assert ended.status == 2 and ended.err.count("\n") == 1, ended


# --- data ---


@pytest.mark.parametrize("data", ["fashion_mnist", "cifar10", "cifar100"])
def test_no_data_root(refused, data):
    """What is not embedded needs one, and the line says how to name it."""
    assert "no data root is named; set LOSSTUNE_DATA (or --data-root)" in refused(TEXT.replace("digits", data))


def test_a_data_root_without_the_files(refused, tmp_path):
    """The missing files are named."""
    said = refused(TEXT.replace("digits", "fashion_mnist"), "--data-root", tmp_path / "nothing")
    assert "nothing lacks FashionMNIST/raw/train-images-idx3-ubyte" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (arrays(y_test=None), "there is no array y_test; found: x_train, y_train, x_test; allowed: "),
        (arrays(y_train=np.arange(60) % 3 - 1), "y_train: label -1 is negative; allowed: 0..K-1"),
        (arrays(y_train=np.arange(60) % 3 * 2), "y_train: class 1 has no example, though labels go up to 4; allowed"),
        (arrays(y_test=np.full(6, 7)), "y_test: label 7 does not occur in y_train; allowed: 0..2"),
        (arrays(y_train=np.r_[0, np.arange(59) % 2 + 1]), "leaves class 0 without a"),
        (images() | {"x_train": with_nan(RNG.random((60, 8, 8)))}, "x_train: holds NaN or infinity (first in example"),
        (arrays(x_test=RNG.normal(size=(6, 5))), "allowed: the same shape"),
        (arrays(x_train=np.zeros((0, 4)), y_train=np.zeros(0, int)), "is empty"),
        (b"PK\x03\x04 but no archive", "is not an npz file; allowed: what numpy.savez writes"),
    ],
)
def test_wrong_arrays(refused, content, said):
    """Checked before anything starts, array by array."""
    assert said in refused(TEXT.replace("digits", "npz:my.npz"), files={"my.npz": content})


def test_images_that_the_network_cannot_take(refused):
    """Feature vectors for a convolutional net."""
    text = TEXT.replace("digits", "npz:my.npz").replace("mlp", "small_cnn") + "recipe: {batch_size: 8}\n"
    said = refused(text, files={"my.npz": arrays()})
    assert "network: small_cnn needs images" in said and "allowed: mlp" in said


def test_a_missing_npz(refused):
    """The line says where it was looked for."""
    assert "there is no file my.npz; allowed: a path relative to" in refused(TEXT.replace("digits", "npz:my.npz"))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def load(): raise OSError('no disk')", "my_data.py:load raised OSError: no disk (line 1)"),
        ("def load(): return 3", "my_data.py:load returned int; allowed: "),
        ("def other(): return 3", "my_data.py defines no function load; found: other"),
        ("def load(:", "my_data.py does not run: SyntaxError"),
    ],
)
def test_wrong_data_of_ones_own(refused, source, said):
    """The user's function is called once, here, before anything starts."""
    assert said in refused(TEXT.replace("digits", "my_data.py:load"), files={"my_data.py": source})


# --- the user's own network and metric ---

NET = "from torch import nn\ndef build(shape, classes):\n    "


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def build(shape, classes):\n    raise RuntimeError('boom')", "raised RuntimeError: boom (line 2)"),
        (NET + "return nn.Sequential(nn.Flatten(), nn.Linear(64, 7))", "final layer must be an nn.Linear with 10"),
        (NET + "return nn.Sequential(nn.Linear(3, classes))", "does not pass"),
        (NET + "return None", "returned NoneType; allowed: a torch.nn.Module"),
        ("import nothing_of_that_name", "does not run: ModuleNotFoundError"),
        ("x = 1", "defines no function build; found: none"),
    ],
)
def test_a_wrong_network_of_ones_own(refused, source, said):
    """It is built and given a batch before anything starts: a lane would die of it again and again."""
    assert said in refused(TEXT.replace("mlp", "my_net.py:build"), files={"my_net.py": source})


def test_a_missing_network_file(refused):
    """Named like any other file."""
    said = refused(TEXT.replace("mlp", "my_net.py:build"))
    assert "my.yaml: network: there is no file my_net.py; allowed: a path relative to" in said


def test_a_backend_that_would_not_keep_a_members_bits(refused):
    """Channels that fill no vector register of any processor: other company would round a member otherwise."""
    convolution = "return nn.Sequential(nn.Conv2d(shape[0], 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(432, classes))"
    said = refused(TEXT.replace("mlp", "my_net.py:build") + "resources: {backend: grouped}\n",
                   files={"my_net.py": NET + convolution})  # fmt: skip
    assert "resources.backend: on this CPU grouped would compute members of my_net.py:build otherwise" in said
    assert "allowed: auto, vmap, sequential" in said


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def score(z, y): raise ValueError('no')", "metric: my_metric.py:score raised ValueError: no (line 1)"),
        ("def score(z, y): return 'high'", "metric: my_metric.py:score returned str; allowed: one number"),
        ("def score(z): return 1", "metric: my_metric.py:score raised TypeError"),
        ("def score(z, y): return 1\nscore.greater_is_better = 'no'", "greater_is_better is 'no'; allowed: True or"),
    ],
)
def test_a_wrong_metric_of_ones_own(refused, source, said):
    """It is tried on made-up logits before anything starts."""
    assert said in refused(TEXT + "metric: my_metric.py:score\n", files={"my_metric.py": source})


@pytest.mark.parametrize(
    ("costs", "said"),
    [("", "is empty"), ("0,1\n1,0\n", "has 2 rows and 2 columns; allowed: 10 x 10"), ("a,b\n", "allowed: numbers")],
)
def test_a_wrong_cost_matrix(refused, costs, said):
    """K x K numbers, or nothing."""
    assert said in refused(TEXT + "metric: cost:c.csv\n", files={"c.csv": costs})


# --- as real processes ---


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "search.trial=3"], "my.yaml: search.trial: unknown key; allowed: method, trials, seeds, halving"),
        (["--set", "split.validation=1e-3"], "split.validation: 0.001 leaves class"),
        (["--set", "metric=nll"], "my.yaml: metric: nll is not defined for squared_error"),
    ],
)
def test_the_real_command(tmp_path, arguments, said):
    """One line on stderr, nothing on stdout, nothing on the disk, no Ray loaded."""
    write(tmp_path / "my.yaml", TEXT)
    code = "import sys\nfrom losstune.search.cli import main\n" \
           "try: main()\nfinally: assert 'ray' not in sys.modules"  # fmt: skip
    ended = subprocess.run([sys.executable, "-c", code, "run", "my.yaml", *arguments], cwd=tmp_path,
                           capture_output=True, text=True, timeout=120)  # fmt: skip
    assert ended.returncode == 2 and ended.stdout == "" and ended.stderr.count("\n") == 1, ended
    assert said in ended.stderr and [path.name for path in tmp_path.iterdir()] == ["my.yaml"]
