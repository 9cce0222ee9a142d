"""`losstune submit` to a real Ray cluster that begins without a worker, and what follows a job."""

import json
import shutil
import time
import urllib.request

import pytest
from autoscaling import Autoscaling
from processes import told
from ran import Ran, assert_as_retrained

pytest.importorskip("aiohttp_cors", reason="Ray Jobs is not installed: pip install losstune[cluster]")

TEXT = """\
data: digits
network: my_net.py:build
metric: my_metric.py:score
losses: [softmax, squared_error]
recipe: {epochs: 9}
search: {trials: 3, seeds: 2}
confirm: {seeds: 2}
resources: {max_lanes: 2, members: 4, backend: sequential}
"""
NET = """
from torch import nn

def build(input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, num_classes))
"""
METRIC = "def score(logits, targets):\n    return float((logits.argmax(1) == targets).mean())\n"
LONG = TEXT.replace("epochs: 9", "epochs: 60, batch_size: 2").replace("trials: 3", "trials: 8, halving: null")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Autoscaling(tmp_path_factory.mktemp("cluster"), workers=2, jobs=True) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def say(tmp_path_factory, start, cluster):
    """say(command, study, *options): how a losstune command ends, in a folder with both studies and the user's code."""
    folder = tmp_path_factory.mktemp("submitted")
    for name, text in (("my.yaml", TEXT), ("long.yaml", LONG), ("my_net.py", NET), ("my_metric.py", METRIC)):
        (folder / name).write_text(text)

    def call(command, study, *options):
        place = ["--out", folder / "runs"] if command == "submit" else []
        return start(folder, command, study, "--address", cluster.jobs, *place, *options, **cluster.environment).wait()

    call.folder = folder
    return call


@pytest.fixture(scope="module")
def submitted(say):
    """The study, submitted and followed to its end; again: how the same command ended while it ran and afterwards."""
    say.first = say("submit", "my.yaml")
    say.again = say("submit", "my.yaml")
    say.to_the_end = say("submit", "my.yaml", "--follow")
    return say


def test_a_submitted_study_runs_once_and_to_its_end(submitted):
    """Its own code goes with it; the second command finds it running, and the third follows it."""
    assert submitted.first.status == 0 and "is submitted" in submitted.first.out, submitted.first
    assert submitted.again.status == 0 and "runs already" in submitted.again.out, submitted.again
    ended = submitted.to_the_end
    assert ended.status == 0 and "runs already" in ended.out and "report: " in ended.out, ended
    ran = Ran(submitted.folder, None)
    assert len(ran.members()) == 4
    assert_as_retrained(ran)


def test_the_workers_are_gone_afterwards(submitted, cluster):
    assert max(workers for _, workers, _ in cluster.counts()) == 2
    cluster.wait_for_workers(0)


def test_a_finished_study_that_is_submitted_again_is_done(submitted):
    ended = submitted("submit", "my.yaml", "--follow")
    assert ended.status == 0 and "nothing is left to do" in ended.out, ended


def test_status_and_logs_of_a_job(submitted):
    said = submitted("status", "my").out
    assert "succeeded, since" in said and "report: " in said
    assert "report: " in submitted("logs", "my").out
    none = submitted("logs", "other")
    assert none.status == 2 and "no job of this study" in none.err and none.err.count("\n") == 1


def test_a_study_of_bad_input_ends_with_its_line(say):
    (say.folder / "bad.yaml").write_text(TEXT + "split: {validation: 0.999}\n")
    ended = say("submit", "bad.yaml", "--follow")
    assert ended.status == 2 and "split.validation: 0.999 leaves class" in ended.out, ended


def test_a_stopped_study_goes_on_where_it_was(say):
    """Its trials keep what they have trained."""
    assert say("submit", "long.yaml").status == 0
    ran = Ran(say.folder, None, "long.yaml")
    end = time.monotonic() + 240
    while not any(row["checkpoints"] or row["epoch"] for row in ran.trials("search")):
        assert time.monotonic() < end
        time.sleep(0.2)
    changed = say("submit", "long.yaml", "--set", "search.trials=9")
    assert changed.status == 2 and "runs this study as it was before" in changed.err, changed
    assert "told to stop" in say("stop", "long").out
    while "stopped" not in (said := say("status", "long").out):
        assert time.monotonic() < end, said
        time.sleep(1)
    parked = {row["id"]: row for row in ran.trials("search", state="running") if row["checkpoints"]}
    assert parked
    assert say("submit", "long.yaml").status == 0
    while not (gone_on := [row for row in ran.trials("search") if row["epoch"] > parked.get(row["id"], row)["epoch"]]):
        assert time.monotonic() < end
        time.sleep(0.2)
    for row in gone_on:  # what it has cost in all is what it is: nothing was trained twice
        assert row["attempt"] == parked[row["id"]]["attempt"] + 1 and row["trained"] == row["epoch"]
    say("stop", "long")


def test_a_study_outlives_the_head(tmp_path_factory, start):
    """The whole cluster is lost and another head takes its place: who supervises the study has it go on."""
    folder = tmp_path_factory.mktemp("outlives")
    for name, text in (("my.yaml", TEXT.replace("epochs: 9", "epochs: 27, batch_size: 8")), ("my_net.py", NET),
                       ("my_metric.py", METRIC)):  # fmt: skip
        (folder / name).write_text(text)
    ran = Ran(folder, None)
    with Autoscaling(tmp_path_factory.mktemp("first"), workers=2, jobs=True) as first:
        supervised = start(folder, "submit", "my.yaml", "--address", first.jobs, "--out", folder / "runs",
                           "--supervise", **first.environment)  # fmt: skip
        supervised.until(lambda: len([row for row in ran.trials("search") if row["state"] != "running"]) > 1)
        first.lose()
        ended = {row["id"]: row for row in ran.trials() if row["state"] != "running"}
    with Autoscaling(tmp_path_factory.mktemp("second"), workers=2, instead_of=first):
        outcome = supervised.wait()
    assert outcome.status == 0 and outcome.out.count(" is submitted\n") == 2, outcome
    assert {row["id"]: row for row in ran.trials() if row["id"] in ended} == ended and len(ran.members()) == 4
    assert_as_retrained(ran)


def test_a_study_outlives_the_head_and_its_disk(tmp_path_factory, start, postgres, s3):
    """With its ledger on a server and its files in a store, nothing of the first head is there for the second one."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name, text in (("my.yaml", TEXT.replace("epochs: 9", "epochs: 27, batch_size: 8")), ("my_net.py", NET),
                       ("my_metric.py", METRIC)):  # fmt: skip
        (folder / name).write_text(text)
    ran, places = Ran(folder, None), ("--ledger", postgres.url(), "--storage", "s3://mine/studies")
    with Autoscaling(tmp_path_factory.mktemp("first"), workers=2, jobs=True) as first:
        supervised = start(folder, "submit", "my.yaml", "--address", first.jobs, "--out", folder / "runs", *places,
                           "--supervise", **first.environment)  # fmt: skip
        supervised.until(lambda: len([row for row in ran.trials("search") if row["state"] != "running"]) > 1)
        first.lose()
        ended = {row["id"]: row for row in ran.trials() if row["state"] != "running"}
    assert [path.name for path in ran.out.iterdir()] == ["ledger"] and not list((ran.out / "ledger").glob("*.db"))
    shutil.rmtree(folder / "runs")
    with Autoscaling(tmp_path_factory.mktemp("second"), workers=2, instead_of=first):
        outcome = supervised.wait()
    assert outcome.status == 0 and outcome.out.count(" is submitted\n") == 2, outcome
    assert {row["id"]: row for row in ran.trials() if row["id"] in ended} == ended and len(ran.members()) == 4
    assert len([name for name in s3.names("studies/my/") if "/predictions/" in name]) == 4


def test_a_token_in_its_file_is_enough(say, cluster, tmp_path):
    """As `ray get-auth-token --generate` leaves it; nothing else need be set. Another one is refused in one line."""
    (tmp_path / ".ray").mkdir()
    for token, status in ((cluster.environment["RAY_AUTH_TOKEN"], 0), ("f" * 64, 2)):
        (tmp_path / ".ray" / "auth_token").write_text(token)
        bare = {"HOME": str(tmp_path), "RAY_AUTH_TOKEN": "", "RAY_AUTH_MODE": ""}
        ended = told(say.folder, "logs", "my", "--address", cluster.jobs, **bare)
        if status == 0:
            assert "no job of this study" in ended.err or ended.status == 0, ended
        else:
            assert ended.status == 2 and "the cluster wants its token" in ended.err, ended
            assert ended.err.count("\n") == 1, ended


def test_nobody_without_the_token_is_let_in(cluster):
    """Neither to submit nor to look."""
    request = urllib.request.Request(f"http://{cluster.jobs}/api/jobs/", method="GET")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30)
    assert refused.value.code in (401, 403), json.dumps(str(refused.value))
