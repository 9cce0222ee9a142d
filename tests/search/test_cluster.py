"""What `losstune submit` ships, when it submits again, and how it ends; the job server of Ray is played by a script."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from losstune.search import cluster, package
from losstune.search.cluster import Cluster, Job, Places, Unreachable, on_cluster, status_of, supervise
from losstune.search.locations import Locations
from losstune.search.package import pack
from losstune.search.study import load_study
from losstune.spaces import InputError

TEXT = "data: {}\nnetwork: code/my_net.py:build\nlosses: [softmax, squared_error]\nmetric: cost:costs.csv\n"
NET = "from torch import nn\ndef build(shape, classes):\n    return nn.Flatten()\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A study's folder with its network, costs and data; the current directory is another one."""
    place = tmp_path / "studies"
    (place / "code").mkdir(parents=True)
    (place / "code" / "my_net.py").write_text(NET)
    (place / "costs.csv").write_text("0,1\n1,0\n")
    (place / "images" / "cats").mkdir(parents=True)
    (place / "images" / "cats" / "1.png").write_bytes(b"a picture")
    np.savez(place / "my.npz", x_train=np.zeros((2, 2)))
    monkeypatch.chdir(tmp_path)
    return place


def packed(folder: Path, data: str, **changes: str) -> dict:
    text = TEXT.format(data)
    for old, new in changes.items():
        text = text.replace(old, new)
    (folder / "my.yaml").write_text(text)
    place = folder.parent / "packed"
    place.mkdir()
    return pack(load_study(folder / "my.yaml", ("confirm.seeds=7",)), place)


def files(place: str) -> set[str]:
    return {str(path.relative_to(place)) for path in Path(place).rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("data", "taken"),
    [("digits", set()), ("npz:my.npz", {"my.npz"}), ("folder:images", {"images/cats/1.png"}),
     ("npz:/data/x.npz", set())],
)  # fmt: skip
def test_a_study_takes_its_files_along(folder, data, taken):
    """Changes by options too; what is named by an absolute path is to be found on the cluster."""
    found = packed(folder, data)
    assert files(found["working_dir"]) == {"my.yaml", "code/my_net.py", "costs.csv"} | taken
    fields = yaml.safe_load((Path(found["working_dir"]) / "my.yaml").read_text())
    assert fields["data"] == data and fields["network"] == "code/my_net.py:build" and fields["confirm"] == {"seeds": 7}
    assert fields["name"] == "my"


def test_files_from_elsewhere_lie_beside_the_study_there(folder):
    """A path that leads out of the study's folder, or an absolute one to code."""
    (folder.parent / "other.npz").write_bytes((folder / "my.npz").read_bytes())
    found = packed(folder, "npz:../other.npz", **{"code/my_net.py": str(folder / "code" / "my_net.py")})
    assert files(found["working_dir"]) == {"my.yaml", "my_net.py", "costs.csv", "other.npz"}
    fields = yaml.safe_load((Path(found["working_dir"]) / "my.yaml").read_text())
    assert (fields["data"], fields["network"]) == ("npz:other.npz", "my_net.py:build")


def test_this_very_losstune_goes_along(folder):
    """Whole, without links: they would lead to nowhere there."""
    (code,) = packed(folder, "digits")["py_modules"]
    assert {"__init__.py", "search/cli.py", "studies/digits.yaml", "analysis/report.css"} & files(code) >= {
        "__init__.py", "search/cli.py", "studies/digits.yaml"}  # fmt: skip
    assert not any(path.is_symlink() for path in Path(code).rglob("*"))


def test_what_is_missing_or_too_large_is_one_line(folder, monkeypatch):
    with pytest.raises(InputError, match="my.yaml: data: there is no file none.npz; allowed: "):
        packed(folder, "npz:none.npz")
    monkeypatch.setattr(package, "LARGEST", 100)
    (folder.parent / "packed").rename(folder.parent / "before")
    with pytest.raises(InputError, match="the files beside it are 0 MiB; allowed: up to 0, or an absolute path on the"):
        packed(folder, "npz:my.npz")


class Server:
    """Ray's job server. fails: whether it cannot be reached now."""

    def __init__(self, address: str):
        self.jobs, self.fails = [], False

    def list_jobs(self):
        if self.fails:
            raise ConnectionError("Connection\nrefused")
        return list(self.jobs)

    def submit_job(self, entrypoint, submission_id, runtime_env, metadata):
        self.jobs.append(SimpleNamespace(
            submission_id=submission_id, metadata=metadata, status="PENDING", message=None, driver_exit_code=None,
            start_time=1000 * len(self.jobs), entrypoint=entrypoint))  # fmt: skip


def at(out: str, data_root: str | None = None, **locations: str) -> Places:
    return Places(out, data_root, Locations(**locations))


@pytest.fixture
def there(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "ray.job_submission", SimpleNamespace(JobSubmissionClient=Server))
    return Cluster("127.0.0.1:8265")


def test_a_study_is_submitted_once_and_again_when_its_job_is_over(there, folder):
    """A changed study only when the job that runs has ended; one that writes elsewhere is another matter."""
    (folder / "my.yaml").write_text(TEXT.format("digits"))
    study, changed = load_study(folder / "my.yaml"), load_study(folder / "my.yaml", ("search.trials=9",))
    first, new = there.submit(study, at("/mnt/runs"))
    assert new and there.submit(study, at("/mnt/runs")) == (first, False)
    with pytest.raises(InputError, match="runs this study as it was before"):
        there.submit(changed, at("/mnt/runs"))
    assert there.submit(study, at("/mnt/others", "/mnt/data"))[1]
    there.client.jobs[0].status = "FAILED"
    second, new = there.submit(changed, at("/mnt/runs"))
    assert new and second.id != first.id and len(there.client.jobs) == 3
    assert "--out /mnt/others --data-root /mnt/data" in there.client.jobs[1].entrypoint


def test_a_study_that_cannot_go_along_is_the_users_error_and_no_clusters(there, folder):
    """A supervisor would wait for a cluster for ever."""
    (folder / "my.yaml").write_text(TEXT.format("npz:none.npz"))
    with pytest.raises(InputError, match="there is no file none.npz") as error:
        there.submit(load_study(folder / "my.yaml"), at("/mnt/runs"))
    assert not isinstance(error.value, Unreachable)
    (folder / "my.yaml").write_text(TEXT.format("digits"))
    with pytest.raises(InputError, match="--pip none.txt: .*allowed: a text file of requirements") as error:
        there.submit(load_study(folder / "my.yaml"), at("/mnt/runs"), Path("none.txt"))
    assert not isinstance(error.value, Unreachable) and not there.client.jobs


def test_no_cluster_is_one_line(there):
    there.client.fails = True
    with pytest.raises(Unreachable, match="--address http://127.0.0.1:8265: Connection refused; allowed: "):
        there.find("my")


def test_where_its_parts_are_goes_along_and_what_a_lost_head_costs_is_said(there, folder):
    """Of what is neither in a storage nor on a server."""
    (folder / "my.yaml").write_text(TEXT.format("digits"))
    ledger, storage = "postgresql://me@db/studies", "s3://mine/runs"
    both = at("/mnt/runs", ledger=ledger, storage=storage)
    there.submit(load_study(folder / "my.yaml"), both)
    assert f"--storage {storage} --ledger {ledger}" in there.client.jobs[0].entrypoint
    assert both.lost_with_head == ""
    assert "all of the study" in at("/mnt/runs").lost_with_head
    assert "checkpoints and predictions are under" in at("/mnt/runs", ledger=ledger).lost_with_head
    assert "the ledger is on the head" in at("/mnt/runs", storage=storage).lost_with_head


def test_a_relative_folder_is_refused():
    with pytest.raises(InputError, match="--out runs: is relative to a folder that only this machine has"):
        on_cluster(Path("runs"))


def job(status: str = "RUNNING", exit_code: int | None = None, message: str = "") -> Job:
    return Job("losstune-my-1", status, message, 0.0, "", exit_code)


LOST = job("FAILED", None, "Job supervisor actor died")


@pytest.mark.parametrize(
    ("endings", "status", "submissions"),
    [([job("SUCCEEDED", 0)], 0, 1), ([LOST, job("SUCCEEDED", 0)], 0, 2), ([job("FAILED", 2)], 2, 1),
     ([job("FAILED", 3, "... losstune: the study stopped: the disk is full; ..."), job("SUCCEEDED", 0)], 0, 2),
     ([job("FAILED", 3, "losstune: the study stopped: lanes die")] * 6, 3, 6),
     ([job("FAILED", 3)], 3, 1), ([job("STOPPED")], 130, 1), ([job("FAILED", -9), LOST, job("FAILED", 3)], 3, 3),
     ([Unreachable("no head"), Unreachable("no head"), job("SUCCEEDED", 0)], 0, 3)],
)  # fmt: skip
def test_supervision_submits_again_what_did_not_end_by_itself(endings, status, submissions):
    """The study's own ending is passed on; a head that is being replaced is waited for."""
    left, submitted, notes, pauses = list(endings), [], [], []

    def follow(_):
        ending = left.pop(0)
        if isinstance(ending, Exception):
            raise ending
        return ending

    found = supervise(lambda: submitted.append(1) or job(), follow, notes.append, pauses.append)
    assert (found, len(submitted), len(notes)) == (status, submissions, submissions - 1)
    assert pauses == sorted(pauses) and all(pause <= cluster.LONGEST_PAUSE for pause in pauses)


@pytest.mark.parametrize(
    ("ended", "status"),
    [(job("SUCCEEDED", 0), 0), (job("FAILED", 2), 2), (job("FAILED", 130), 130), (job("STOPPED"), 130), (LOST, 3),
     (job("FAILED", 1), 3)],
)  # fmt: skip
def test_the_exit_status_is_the_runs_own(ended, status):
    assert status_of(ended) == status
