"""`losstune new` for tables and folders: the study that it writes checks."""

import numpy as np
import pytest
import yaml
from PIL import Image

# torchvision 0.29 announces that its decoders will move to TorchCodec.
pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities")
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def images(root, sizes):
    for part, count in (("train", 40), ("val", 4)):
        for label in "ab":
            (root / part / label).mkdir(parents=True)
            for n in range(count):
                size = sizes[n % len(sizes)]
                Image.fromarray(RNG.integers(0, 256, (*size, 3), np.uint8)).save(root / part / label / f"{n}.png")


def written(losstune, data, name):
    outcome = losstune("new", data)
    assert outcome.status == 0 and f"wrote {name}.yaml" in outcome.out, outcome
    return yaml.safe_load(open(f"{name}.yaml"))


def test_a_table(losstune, tmp_path):
    rows = "".join(f"{n},{n % 7},{'abc'[n % 3]}\n" for n in range(150))
    (tmp_path / "my table.csv").write_text("p,q,label\n" + rows)
    fields = written(losstune, "my table.csv", "my-table")
    assert fields["data"] == "csv:my table.csv" and fields["network"] == "mlp"
    outcome = losstune("check", "my-table.yaml")
    assert "102 to train, 18 to validate, 30 to test; 3 classes; 2" in outcome.out, outcome


def test_what_else_a_study_may_have_is_there_as_comments_that_check(losstune, tmp_path):
    """Each can be made part of the study by taking its # away."""
    rows = "".join(f"{n},{n % 7},{'abc'[n % 3]}\n" for n in range(150))
    (tmp_path / "t.csv").write_text("p,q,label\n" + rows)
    assert set(written(losstune, "t.csv", "t")) & {"searches", "record"} == set()
    text = (tmp_path / "t.yaml").read_text()
    for line in ("searches: 5", "record:", "  curves: 5"):
        assert f"\n# {line}" in text
        text = text.replace(f"\n# {line}", f"\n{line}")
    (tmp_path / "t.yaml").write_text(text)
    fields = yaml.safe_load(text)
    assert fields["searches"] == 5 and fields["record"] == {"curves": 5}
    outcome = losstune("check", "t.yaml")
    assert outcome.status == 0 and "5 times, each time with a split of its own" in outcome.out, outcome


def test_a_folder_of_images(losstune, tmp_path):
    images(tmp_path / "photos", [(16, 18), (20, 16)])
    fields = written(losstune, "photos?size=16", "photos")
    assert fields["data"] == "folder:photos?size=16" and fields["network"] == "small_cnn"
    outcome = losstune("check", "photos.yaml")
    assert "68 to train, 12 to validate, 8 to test; 2 classes; 3 x 16 x 16" in outcome.out, outcome


def test_a_folder_of_arrays(losstune, tmp_path):
    (tmp_path / "arrays").mkdir()
    for name, array in {"x_train": RNG.normal(size=(80, 3)), "y_train": np.arange(80) % 2,
                        "x_test": RNG.normal(size=(9, 3)), "y_test": np.arange(9) % 2}.items():  # fmt: skip
        np.save(tmp_path / "arrays" / f"{name}.npy", array)
    assert written(losstune, "arrays/", "arrays")["data"] == "npy:arrays/"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("nothing", "nothing: not data that a study can be made for; allowed: FILE.npz, FILE.csv, a folder with train"),
        ("no.csv", "data: csv:no.csv: there is no file no.csv"),
        ("folder:no", "data: folder:no: there is no folder no"),
        (".", "data: folder:.: the folder lacks train; found: nothing"),
    ],
)
def test_what_is_no_data(losstune, data, message):
    outcome = losstune("new", data)
    assert outcome.status == 2 and message in outcome.err and outcome.err.count("\n") == 1, outcome
