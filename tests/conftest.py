# ruff: noqa: E402
"""The command line as tests use it: in this process, where no Ray may start, and as real processes."""

import atexit
import gc
import os
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

from losstune.trainables.processor import prefer_wide_kernels

prefer_wide_kernels()  # as the command line does, before NumPy is loaded: what lanes compute is compared in bits

import pytest
from processes import Outcome, Running

# A token by environment, so that Ray writes none to the home directory.
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
# What is measured while tests load the machine is not for the user's own studies.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="losstune-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)


RUNS_STUDIES = {"start", "finished_study", "harness"}  # fixtures


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that run whole studies come first: else one process would be left with them when the other has ended."""
    long = {item.path for item in items if RUNS_STUDIES.intersection(getattr(item, "fixturenames", ()))}
    items.sort(key=lambda item: item.path not in long)


def pytest_collection_finish() -> None:
    """Have the garbage collector pass over the modules and tests that are loaded: statsmodels calls it at every
    adjustment of p-values, and it would take half a second to look through them."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def losstune(monkeypatch, capfd):
    """losstune(*arguments): the command line in this process; importing Ray would fail."""

    def call(*arguments: object) -> Outcome:
        from losstune.search.cli import main

        monkeypatch.setattr(sys, "argv", ["losstune", *map(str, arguments)])
        monkeypatch.setitem(sys.modules, "ray", None)
        capfd.readouterr()
        status = 0
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
        return Outcome(status, *capfd.readouterr())

    return call


@pytest.fixture(scope="module")
def start():
    """start(folder, *arguments): a losstune process; those still alive at the end of the module are killed."""
    started: list[Running] = []

    def begin(folder: Path, *arguments: object, **environment: str) -> Running:
        started.append(Running(folder, *arguments, **environment))
        return started[-1]

    yield begin
    for running in started:
        running.end()
