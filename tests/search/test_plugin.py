"""A third party's loss: the example package is installed, listed, used in a loop and in a study."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "poly_loss"


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder where the example package is installed, apart from the tests' own packages."""
    folder = tmp_path_factory.mktemp("packages")
    # pip builds beside what it reads.
    source = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("source") / "poly_loss")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(source)],
        check=True,
    )
    return str(folder)


def test_it_is_listed_with_its_space_and_package(packages, start, tmp_path):
    ended = start(tmp_path, "losses", PYTHONPATH=packages).wait()
    assert ended.status == 0, ended
    line = next(line for line in ended.out.splitlines() if line.startswith("poly "))
    assert "Leng et al. 2022" in line and "poly-loss 0.1.0" in line
    assert "epsilon = 1; searched -0.9 to 6, linear; legal [-1, inf)" in ended.out


def test_it_works_in_a_loop_and_refuses_as_ours_do(packages):
    program = """
import torch
from losstune import InputError, make_head, make_loss
z, y = torch.randn(6, 5, dtype=torch.float64), torch.arange(6) % 5
p = z.softmax(1).gather(1, y[:, None])[:, 0]
assert torch.allclose(make_loss("poly", 5, epsilon=2.0)(z, y), -p.log() + 2 * (1 - p), rtol=1e-12)
both = make_loss("poly+large_margin", 5, lam=0.0)(z, y)
assert torch.allclose(both, make_loss("poly", 5)(z, y), rtol=1e-12)
assert make_head("poly+center", in_features=3, num_classes=5).centers.shape == (5, 3)
try:
    make_loss("poly", 5, epsilon=-2.0)
except InputError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": packages}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "poly.epsilon: -2.0 is out of bounds; allowed: [-1, inf)"


def test_it_is_searched_and_confirmed_in_a_study(packages, start, tmp_path):
    """With two planned looks: Ray comes and goes for each of them in one process, whose status is its own."""
    (tmp_path / "mine.yaml").write_text(
        "data: digits\nnetwork: mlp\nlosses: [softmax, poly]\nrecipe: {epochs: 2}\n"
        "search: {trials: 2, seeds: 1, halving: null}\nconfirm: {seeds: [2, 3], alpha: 0.000001}\n"
        "resources: {max_lanes: 1}\n"
    )
    ended = start(tmp_path, "run", "mine.yaml", PYTHONPATH=packages).wait()
    assert ended.status == 0, ended
    assert "Look 2 of 2, with 3 seeds." in ended.out and ended.out.splitlines()[-1].startswith("report: ")
    verdict = json.loads((tmp_path / "runs" / "mine" / "report" / "verdict.json").read_text())
    assert set(verdict["best_set"]) <= {"softmax", "poly"}
    table = (tmp_path / "runs" / "mine" / "report" / "table.csv").read_text()
    assert "poly" in table and "epsilon" in table


def test_without_the_package_its_name_is_unknown():
    from losstune import InputError, make_loss

    with pytest.raises(InputError, match="unknown loss 'poly'"):
        make_loss("poly", 5)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("POLY = 3", "int is not allowed; allowed: a losstune.spaces.LossPlugin"),
        ("import nothing_of_that_name", "cannot be loaded (ModuleNotFoundError"),
        (
            "from losstune.spaces import LossPlugin, Space\nPOLY = LossPlugin(Space('a', 'b'), lambda: 3)",
            "its plugin makes a int; allowed: a losstune.trainables.losses.Loss",
        ),
        (
            "from losstune.spaces import LossPlugin, Space\n"
            "def make():\n"
            "    from losstune.trainables.losses import Loss\n"
            "    return Loss(lambda logits, targets, epsilon: logits)\n"
            "POLY = LossPlugin(Space('a', 'b'), make)",
            "takes epsilon, which this loss does not have",
        ),
        (
            "from losstune.spaces import LossPlugin, Space\n"
            "def make():\n"
            "    from losstune.trainables.losses import Loss\n"
            "    from torch.nn.functional import cross_entropy\n"
            "    return Loss(lambda logits, targets: cross_entropy(logits.flatten(0, -2), targets.flatten()))\n"
            "POLY = LossPlugin(Space('a', 'b'), make)",
            "gives () for logits (2, 3, 4) and targets (2, 3); allowed: a value per example, (2, 3)",
        ),
        (
            "from losstune.spaces import LossPlugin, Space\n"
            "def make():\n"
            "    from losstune.trainables.losses import LOSSES\n"
            "    return LOSSES['cot']\n"
            "POLY = LossPlugin(Space('a', 'b'), make)",
            "passes: its space says 1, its loss takes 2",
        ),
    ],
)
def test_a_broken_package_is_one_line(tmp_path, body, says):
    (tmp_path / "broken.py").write_text(body)
    information = tmp_path / "broken-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[losstune.losses]\npoly = broken:POLY\n")
    program = "from losstune import make_loss\nmake_loss('poly', 5)"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "InputError" in last and says in last, done.stderr


def test_what_is_wrong_with_a_package_does_not_hide_the_other_losses(packages, start, tmp_path):
    """A broken one, one that takes a name of ours, and two of one name."""
    offers = {"broken": "other = nothing:HERE\nsoftmax = nothing:HERE", "second": "poly = poly_loss:SPACE"}
    for name, points in offers.items():
        information = tmp_path / f"{name}-1.0.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (information / "entry_points.txt").write_text(f"[losstune.losses]\n{points}\n")
    ended = start(tmp_path, "losses", PYTHONPATH=f"{packages}{os.pathsep}{tmp_path}").wait()
    assert ended.status == 0 and "\nlabel_smoothing " in ended.out, ended
    assert "other = nothing:HERE: cannot be loaded (ModuleNotFoundError" in ended.out
    assert "softmax of broken 1.0 is ignored: it is the name of one of losstune's" in ended.out
    assert "poly: poly-loss and second have one each; allowed: one of that name" in ended.out


def test_an_edited_package_is_another_study(packages, tmp_path):
    """Its version may be the same, as in an editable install."""
    shutil.copytree(packages, tmp_path / "copy")
    program = "from losstune.spaces import plugin_source; print(plugin_source('poly'))"
    said = []
    for text in ("", "\n# edited\n"):
        with open(tmp_path / "copy" / "poly_loss.py", "a") as file:
            file.write(text)
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "copy")}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        said.append(done.stdout)
    assert said[0] != said[1] and all(text.startswith("poly-loss 0.1.0, ") for text in said)
