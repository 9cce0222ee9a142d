"""A small study that has ended, which several files' tests look at or damage copies of."""

import shutil
import sqlite3

import pytest
from processes import Running
from ran import Ran

from losstune.search.locations import ledger_path

TEXT = """\
data: digits
network: mlp
losses: [softmax, squared_error]
recipe: {epochs: 3}
search: {trials: 2, seeds: 2, halving: {first: 1, factor: 3}}
confirm: {seeds: 2}
resources: {max_lanes: 1}
"""


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory):
    """As its run has left it, with all of its ledger in one file. To be looked at only."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "my.yaml").write_text(TEXT)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        running = Running(folder, "run", "my.yaml")
        try:
            outcome = running.wait()
        finally:
            running.end()
    assert outcome.status == 0, outcome
    ran = Ran(folder, Running)
    connection = sqlite3.connect(ledger_path(ran.out))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return ran


@pytest.fixture
def undrawn(monkeypatch):
    """Reports that are made in this process have no figures, which take most of their time."""
    monkeypatch.setattr("losstune.analysis.figures.draw", lambda figures: [])


@pytest.fixture
def study(finished_study, tmp_path, start):
    """A copy of it, to damage."""
    shutil.copytree(finished_study.folder, tmp_path / "copy")
    return Ran(tmp_path / "copy", start)
