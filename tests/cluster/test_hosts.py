"""A study over several hosts, one of which is cut off from the others for a while."""

import time

import pytest
from faults.evidence import differences, evidence_of
from hosts import Hosts, why_not
from processes import GUARD, Running
from ran import Ran, folder_with

from losstune.search.ledger import read

CUT_SECONDS = 60
# Random configurations and no halving: what is asked does not depend on who is quicker.
TEXT = """\
data: digits
network: mlp
losses: [softmax, label_smoothing, sigmoid]
recipe: {epochs: 30, batch_size: 4}
search: {method: random, trials: 4, seeds: 2, halving: null}
confirm: {seeds: 3}
resources: {max_lanes: 2, members: 4, backend: sequential}
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, start):
    return Ran(folder_with(tmp_path_factory, "undisturbed", my__yaml=TEXT), start).run()


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """The study, one of whose two workers was cut off for a minute, with trials; parted: those, then."""
    if reason := why_not():
        pytest.skip(reason)
    with Hosts(workers=2) as hosts:
        ran = Ran(folder_with(tmp_path_factory, "cut", my__yaml=TEXT),
                  lambda folder, *arguments: Running(folder, *arguments, within=hosts.within("head"),
                                                     **hosts.environment))  # fmt: skip
        running = ran.begin("--address", hosts.address)
        try:
            running.until(lambda: len({row["lane"] for row in ran.trials("search") if row["epoch"]} - {None}) == 2)
            hosts.cut("worker1")
            began, ran.parted = time.monotonic(), ran.trials("search", state="running")
            while time.monotonic() - began < CUT_SECONDS and running.process.poll() is None:
                time.sleep(1)
            hosts.heal("worker1")
            ran.was_running = running.process.poll() is None
            while running.process.poll() is None and time.monotonic() - began < GUARD:
                hosts.begin_again()
                time.sleep(1)
            ran.ended = running.wait()
        finally:
            running.end()
    return ran


def test_it_ends_as_if_nothing_had_happened(cut, undisturbed):
    """Every trial, curve, choice and prediction, and the verdict."""
    assert undisturbed.ended.status == cut.ended.status == 0, cut.ended
    assert differences(evidence_of(cut), evidence_of(undisturbed)) == []


def test_no_trial_is_blamed_for_the_network(cut):
    assert not any("lane died" in (row["reason"] or "") for row in cut.trials())


def test_what_was_cut_off_went_on_elsewhere(cut):
    """Ray gave the worker up within the minute, and another lane had its trials."""
    lanes = {lane["id"] for lane in cut.read(read.all_lanes)}
    assert len(lanes) >= 2 and cut.was_running
    later = [row for row in cut.trials("search") if row["id"] in {part["id"] for part in cut.parted}]
    assert any(row["attempt"] > 1 for row in later)
