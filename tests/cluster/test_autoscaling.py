"""A study on a real Ray cluster without a worker: it grows for the lanes that wait, and shrinks after them."""

import pytest
from autoscaling import Autoscaling
from ran import Ran, assert_as_retrained, folder_with

from losstune.search.ledger import read

TEXT = """\
data: digits
network: mlp
losses: [softmax, squared_error, sigmoid]
recipe: {epochs: 27, batch_size: 8}
search: {trials: 8, seeds: 3}
confirm: {seeds: 6}
resources: {max_lanes: 2, members: 6, backend: sequential}
"""


@pytest.fixture(scope="module")
def scaled(tmp_path_factory, start):
    """The study, run to its end; nodes: time, workers and slots in use while it ran and until the workers were gone."""
    ran = Ran(folder_with(tmp_path_factory, "scaled", my__yaml=TEXT), start)
    with Autoscaling(tmp_path_factory.mktemp("cluster"), workers=3) as cluster:
        running = start(ran.folder, "run", "my.yaml", "--address", cluster.address, **cluster.environment)
        running.until(lambda: max(workers for _, workers, _ in cluster.counts()) == 2)
        ran.ended = running.wait()
        cluster.wait_for_workers(0)
        ran.nodes = cluster.counts()
    return ran


def test_it_grows_from_nothing_and_shrinks_to_nothing(scaled):
    """To as many workers as the study may have lanes, though there could be more."""
    assert scaled.ended.status == 0, scaled.ended
    workers = [count for _, count, _ in scaled.nodes]
    assert workers[0] == workers[-1] == 0 and max(workers) == 2


def test_all_slots_are_used_while_trials_wait(scaled):
    """From the moment at which both lanes have their machine until the last trials of the search are under way."""
    asked = [row["asked"] for row in scaled.trials("search")]
    lanes = scaled.read(read.all_lanes)
    assert len({lane["slot"] for lane in lanes}) == 2
    both = max(lane["started"] for lane in lanes)
    used = [slots for when, _, slots in scaled.nodes if both + 1 < when < max(asked)]
    assert used and min(used) == 2


def test_budgets_are_equal_and_the_confirmed_numbers_those_of_training_alone(scaled):
    """On any size of cluster."""
    for loss in ("softmax", "squared_error", "sigmoid"):
        assert [row["number"] for row in scaled.trials("search", loss=loss)] == list(range(8))
    assert len(scaled.members()) == 18
    assert_as_retrained(scaled)
