"""Planned looks in one run: Ray comes and goes for each of them in the same process, whose status is its own."""

from ran import Ran, folder_with

TEXT = """\
data: digits
network: linear
losses: [softmax, squared_error]
recipe: {epochs: 2, tune: []}
search: {trials: 2, seeds: 1, halving: null}
confirm: {seeds: [2, 3, 4], alpha: 0.000001}
record: null
"""


def test_a_run_of_several_looks_says_its_verdict_and_is_done(tmp_path_factory, start):
    ended = Ran(folder_with(tmp_path_factory, "looks", my__yaml=TEXT), start).run().ended
    assert ended.status == 0, ended
    assert "Look 3 of 3, with 4 seeds." in ended.out and ended.out.splitlines()[-1].startswith("report: ")
