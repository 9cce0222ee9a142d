"""Checkpoints, predictions, weights, report and the ledger's copy in an object store; and MLflow as a team has it."""

import shutil
import signal

import pytest
from processes import told
from ran import Ran, folder_with
from servers import PASSWORD, S3, Mlflow

from losstune.trainables import predictions
from losstune.trainables.checkpoint import DamagedCheckpoint, read
from losstune.trainables.disk import DiskError
from losstune.trainables.storage import files_in, place_of

ONE = """\
data: digits
network: mlp
losses: [softmax, squared_error]
recipe: {epochs: 9, batch_size: 8}
search: {trials: 4, seeds: 2, halving: {first: 3, factor: 3}}
confirm: {seeds: 3}
resources: {max_lanes: 1, backend: sequential}
"""
PLACE = "s3://mine/the runs"


# --- a place in a store ---


def test_files_of_a_store(s3):
    """As those of a folder: whole, listed with their sizes, replaced, removed."""
    folder = place_of("s3://mine/some/folder/") / "checkpoints"
    assert list(files_in(folder)) == [] and not (folder / "a.pt").is_file()
    (folder / "one trial" / "a.pt").write_bytes(b"first")
    (folder / "one trial" / "a.pt").write_bytes(b"second" * 1_000_000)
    (folder / "b.pt").write_bytes(b"")
    there = "s3://mine/some/folder/checkpoints"
    assert {str(path): size for path, size in files_in(folder)} == {f"{there}/one trial/a.pt": 6_000_000,
                                                                   f"{there}/b.pt": 0}  # fmt: skip
    assert (folder / "one trial" / "a.pt").read_bytes() == b"second" * 1_000_000
    assert list(files_in(folder / "one")) == []  # a part of a name is no folder
    (folder / "b.pt").unlink()
    (folder / "b.pt").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        (folder / "b.pt").read_bytes()


def test_what_is_not_there_is_damage_and_a_store_that_refuses_is_not(s3, monkeypatch):
    """A trial starts again where its checkpoint is lost, and not where nobody answers."""
    with pytest.raises(DamagedCheckpoint):
        read(place_of(PLACE) / "none.pt", "digest")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(DiskError):
        read(place_of("s3://mine/x?endpoint_override=http://127.0.0.1:9&region=x") / "none.pt", "digest")


# --- a study ---


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, start):
    return Ran(folder_with(tmp_path_factory, "file", my__yaml=ONE), start).run()


@pytest.fixture(scope="module")
def moved(tmp_path_factory, start, s3):
    """Its machine is lost in the search: what its disk held is gone, and another machine goes on with the storage."""
    ran = Ran(folder_with(tmp_path_factory, "moved", my__yaml=ONE), start)
    running = ran.begin("--storage", PLACE)
    running.until(lambda: ran.trials("search", state="complete"))
    running.process.send_signal(signal.SIGTERM)
    ran.first = running.wait()
    ran.checkpoints = s3.names("the runs/my/checkpoints/")
    ran.kept_before = s3.names("the runs/my/")
    shutil.rmtree(ran.out)
    ran.run("--storage", PLACE)
    return ran


def test_it_goes_on_from_what_the_storage_has(moved, undisturbed):
    """And ends as if nothing had happened, bit for bit: it has one slot."""
    assert moved.first.status == 130 and moved.ended.status == 0, (moved.first, moved.ended)
    assert "the ledger is the copy of s3://mine/the runs/my/ledger" in moved.ended.err
    assert moved.checkpoints and "the runs/my/ledger/copy.db" in moved.kept_before
    assert moved.members().equals(undisturbed.members())
    for row, other in zip(moved.trials(), undisturbed.trials(), strict=True):
        assert row["files"] == other["files"] and row["score"] == other["score"] and row["trained"] == other["trained"]


def test_what_is_kept_there(moved, s3):
    """No checkpoint of a trial that has ended; the weights of each loss's first seed; the report; nobody runs it."""
    kept = s3.names("the runs/my/")
    parts = {name.split("/")[2] for name in kept}
    assert parts == {"predictions", "weights", "features", "report", "ledger"}, kept
    assert len([name for name in kept if "/predictions/" in name]) == 6
    assert len([name for name in kept if "/weights/" in name]) == 2
    assert {name.split("/")[-1] for name in kept if "/ledger/" in name} == {"copy.db", "run.json"}
    assert "the runs/my/report/winner.pt" in kept and "the runs/my/report/report.html" in kept
    assert not (moved.out / "checkpoints").exists() and not (moved.out / "predictions").exists()
    found = predictions.read(place_of(PLACE) / "my" / "predictions" / "confirm0-softmax-0001.npz")
    assert found.test_logits.shape[1] == 10


def test_status_says_where_and_how_large(moved):
    said = told(moved.folder, "status", "my")
    assert "MB under s3://mine/the runs/my (" in said.out and "predictions" in said.out, said


def test_another_storage_for_the_same_study_is_refused(moved):
    for other in ("s3://mine/other", str(moved.folder / "local")):
        ended = told(moved.folder, "run", "my.yaml", "--storage", other)
        assert ended.status == 2 and f"my has it in {PLACE}" in ended.err and ended.err.count("\n") == 1, ended


def test_the_doctor_finds_what_is_damaged_there(moved, s3):
    """And trains it again, to the same numbers; what a store does not answer about is not damaged."""
    before = moved.members()
    name = "the runs/my/predictions/confirm0-softmax-0001.npz"
    s3.client().put_object(Bucket="mine", Key=name, Body=b"garbage")
    assert told(moved.folder, "doctor", "my", AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_MAX_ATTEMPTS="1").status == 3
    ended = told(moved.folder, "doctor", "my")
    assert "it again, to the same numbers" in ended.out and "predictions/confirm0-softmax-0001.npz" in ended.out, ended
    assert moved.run().ended.status == 0 and moved.members().equals(before)


def test_no_secret_is_kept_or_shown(moved, s3):
    secret = s3.environment["AWS_SECRET_ACCESS_KEY"].encode()
    for path in moved.folder.rglob("*"):
        assert not path.is_file() or secret not in path.read_bytes(), path
    for name in s3.names("the runs/"):
        assert secret not in s3.client().get_object(Bucket="mine", Key=name)["Body"].read(), name


@pytest.mark.parametrize(
    ("place", "said"),
    [("s3://no-such-bucket/runs", "no such bucket"), ("s3://key:secret@mine/runs", "a secret in it would be seen"),
     ("ftp://mine/runs", "allowed: a folder, s3://"), ("s3://", "allowed: a folder, s3://"),
     ("s3://mine/runs?colour=red", "colour is no option of it; allowed: endpoint_override")],
)  # fmt: skip
def test_a_place_that_will_not_do_is_one_line(s3, losstune, tmp_path, place, said):
    ended = losstune("run", "digits", "--out", tmp_path / "runs", "--storage", place)
    assert ended.status == 2 and said in ended.err and ended.err.count("\n") == 1, ended
    assert "secret@" not in ended.err


def test_a_store_that_is_gone_stops_the_study_and_nothing_is_lost(s3, tmp_path_factory, start):
    """It says why; the same command goes on."""
    other = S3(tmp_path_factory.mktemp("other"))
    ran = Ran(folder_with(tmp_path_factory, "gone", my__yaml=ONE), start)
    running = start(ran.folder, "run", "my.yaml", "--storage", PLACE, "--name", "gone",
                    **other.environment, AWS_MAX_ATTEMPTS="3")
    gone = Ran(ran.folder, start, "gone.yaml")
    running.until(lambda: gone.trials("confirm"))
    other.end()
    ended = running.wait()
    assert ended.status == 3 and "cannot be read or written" in ended.err, ended
    assert "Traceback" not in ended.err
    ended = told(ran.folder, "run", "my.yaml", "--name", "gone")
    assert ended.status == 0, ended
    assert len(gone.members()) == 6


# --- MLflow ---


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory, s3, postgres):
    server = Mlflow(tmp_path_factory.mktemp("mlflow"), postgres, s3)
    yield server
    server.end()


def test_mlflow_on_postgresql_with_artifacts_in_a_store_and_a_login(mlflow, s3, moved, monkeypatch):
    """A wrong password costs the study nothing and is said; with the right one everything arrives."""
    wrong = {**mlflow.environment, "MLFLOW_TRACKING_PASSWORD": "wrong"}
    refused = told(moved.folder, "sync", "my", **wrong)
    assert refused.status == 2 and refused.err.count("\n") == 1 and "Traceback" not in refused.err, refused
    assert told(moved.folder, "sync", "my", **mlflow.environment).status == 0
    for name, value in mlflow.environment.items():
        monkeypatch.setenv(name, value)
    from mlflow import MlflowClient

    client = MlflowClient(mlflow.environment["MLFLOW_TRACKING_URI"])
    runs = client.search_runs([client.get_experiment_by_name("my").experiment_id], max_results=1000)
    assert len(runs) == len(moved.trials()) + 5  # two losses, searched and confirmed, and the report
    assert any(name.endswith("report.html") for name in s3.names("mlflow/"))
    for run in runs:
        assert PASSWORD not in str(run.to_dictionary())
