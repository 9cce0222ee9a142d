"""A third party's loss: the example package is installed, listed, used in a loop and in a study."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "poly_loss"


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """A folder where the example package is installed, apart from the tests' own packages."""
    folder = tmp_path_factory.mktemp("packages")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(EXAMPLE)],
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
    (tmp_path / "mine.yaml").write_text(
        "data: digits\nnetwork: mlp\nlosses: [softmax, poly]\nrecipe: {epochs: 2}\n"
        "search: {trials: 2, seeds: 1, halving: null}\nconfirm: {seeds: 2}\n"
    )
    ended = start(tmp_path, "run", "mine.yaml", PYTHONPATH=packages).wait()
    assert ended.status == 0, ended
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
