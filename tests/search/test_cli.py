"""The commands that need no Ray: what they list, check, write and compare."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from losstune.search import cli
from losstune.search.lanes import Running
from losstune.spaces import SPACES, InputError, StudyStopped
from losstune.trainables.architectures import ARCHITECTURES
from losstune.trainables.datasets import DATASETS


@pytest.fixture
def losstune(monkeypatch, capsys, tmp_path):
    """losstune(*arguments) -> (exit status, stdout, stderr), in an empty current directory."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["losstune", *map(str, arguments)])
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(SystemExit) as end:
            cli.main()
        captured = capsys.readouterr()
        return end.value.code or 0, captured.out, captured.err

    return call


@pytest.mark.parametrize(
    ("command", "names"),
    [("losses", SPACES), ("datasets", DATASETS), ("architectures", ARCHITECTURES), ("studies", ["digits", "fashion"])],
)
def test_the_catalogue_lists_everything_there_is(losstune, command, names):
    status, out, _ = losstune(command)
    assert status == 0
    assert [name for name in names if name not in out] == []


def test_listing_losses_imports_no_torch():
    """It has to be instant."""
    code = "import sys; from losstune.search import cli; sys.argv = ['losstune', 'losses']\n" \
           "try: cli.main()\nexcept SystemExit: pass\n" \
           "sys.exit('torch' in sys.modules or 'ray' in sys.modules)"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_check_shows_the_plan_and_writes_nothing(losstune, tmp_path):
    status, out, _ = losstune("check", "digits", "--set", "search.trials=5")
    assert status == 0
    assert "50 configurations (5 per loss) x 3 seeds, rungs at 3, 9, 27 epochs" in out
    assert list(tmp_path.iterdir()) == []


def test_check_measure_reckons_time_disk_and_memory(losstune):
    status, out, _ = losstune("check", "digits", "--measure", "--set", "losses=[softmax]")
    assert status == 0
    assert all(word in out for word in ("s per member-epoch", "time ", "disk ", "memory "))


def test_new_writes_a_study_that_checks(losstune, tmp_path):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 4)), np.arange(300) % 3
    np.savez(tmp_path / "mine.npz", x_train=x[:200], y_train=y[:200], x_test=x[200:], y_test=y[200:])
    status, out, _ = losstune("new", "mine.npz")
    assert status == 0 and "mine.yaml" in out
    fields = yaml.safe_load((tmp_path / "mine.yaml").read_text())
    assert fields["data"] == "npz:mine.npz" and fields["network"] == "mlp" and set(fields["losses"]) == {
        name for name, space in SPACES.items() if not space.known_to_fail
    }  # fmt: skip
    status, out, _ = losstune("check", "mine.yaml")
    assert status == 0 and "170 to train, 30 to validate, 100 to test; 3 classes" in out
    status, _, err = losstune("new", "mine.npz")
    assert status == 2 and "exists already" in err


def test_compare_prints_the_best_set(losstune, tmp_path):
    rows = "\n".join(f"{0.9 + s / 1000},{0.8 + s / 1000},{0.9 + s / 1000 + (-1) ** s / 1000}" for s in range(10))
    (tmp_path / "scores.csv").write_text("a,b,c\n" + rows)
    status, out, _ = losstune("compare", "scores.csv")
    assert status == 0
    assert "best set: a, c" in out.replace("c, a", "a, c")


def test_status_of_nothing_is_one_line(losstune):
    status, out, err = losstune("status")
    assert (status, out, err.count("\n")) == (2, "", 1)


def test_help_shows_an_example_for_every_command(losstune):
    _, out, _ = losstune("--help")
    for command in (c.name or c.callback.__name__ for c in cli.app.registered_commands):
        assert command in out
        assert "Example: losstune" in losstune(command, "--help")[1]


def test_exit_handlers_of_native_libraries_do_not_decide_how_a_run_ends():
    """Those of Python run, what was written is there, and the status is the command's."""
    code = "import atexit, ctypes, ray, sys\n" \
           "from losstune.search.cli import main\n" \
           "library = ctypes.CDLL(None)\n" \
           "library.__cxa_atexit(library.abort, None, None)\n" \
           "atexit.register(print, 'the end')\n" \
           "sys.argv = ['losstune', *sys.argv[1:]]\n" \
           "main()"  # fmt: skip
    for command, status, out in ((["losses"], 0, "softmax"), (["status", "nothing"], 2, "")):
        ended = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True)
        assert ended.returncode == status and out in ended.stdout and ended.stdout.endswith("the end\n"), ended


def test_a_run_whose_output_nobody_can_see_ends_as_any_other():
    """Its standard output is closed: Python has none then."""
    code = "import ray, sys; from losstune.search.cli import main; sys.argv = ['losstune', 'status', 'nothing']; main()"
    ended = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, code], capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1, ended


@pytest.mark.parametrize(("address", "error"), [("auto", InputError), (None, StudyStopped)])
def test_no_ray_is_one_line(monkeypatch, address, error):
    def init(**options):
        raise ConnectionError("nobody\nanswers")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with pytest.raises(error, match="ConnectionError: nobody answers"):
        Running(None, None, None, address)._init_ray()
