"""What a machine has measured once is what every later study of it computes with."""

import multiprocessing
import time
from dataclasses import replace

import pytest

from losstune.trainables.job import Job
from losstune.trainables.metrics import METRICS
from losstune.trainables.network import Network
from losstune.trainables.recipe import Recipe
from losstune.trainables.remembered import remembered
from losstune.trainables.scoring import Scorer

JOB = Job("tests", Network("mlp", (1, 8, 8), 10), Recipe(), Scorer(METRICS["accuracy"], 10), "nowhere")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def measured(width: int) -> dict:
    return {"choice": {"kind": "batched", "together": 8, "compiled": False, "products": "torch"}, "width": width}


def never():
    raise AssertionError("it is known already")


def test_it_is_measured_once_whatever_the_study_is_called():
    assert remembered(JOB, "cpu", lambda: measured(3)) == measured(3)
    assert remembered(replace(JOB, study="another", folder="elsewhere"), "cpu", never) == measured(3)


@pytest.mark.parametrize(
    "other",
    [
        replace(JOB, network=Network("mlp", (1, 9, 9), 10)),
        replace(JOB, network=Network("my.py:build", (1, 8, 8), 10, source="def build(): ...")),
        replace(JOB, recipe=Recipe(batch_size=32)),
        replace(JOB, recipe=Recipe(precision="bfloat16")),
        replace(JOB, backend="sequential"),
        replace(JOB, width=2),
    ],
)
def test_what_differs_is_measured_apart(other):
    remembered(JOB, "cpu", lambda: measured(3))
    assert remembered(other, "cpu", lambda: measured(4)) == measured(4)


def test_another_device_is_measured_apart():
    remembered(JOB, "cpu", lambda: measured(3))
    assert remembered(JOB, "NVIDIA H200", lambda: measured(4)) == measured(4)


def test_a_damaged_memory_is_measured_anew(cache):
    remembered(JOB, "cpu", lambda: measured(3))
    (path,) = cache.rglob("*.json")
    path.write_text('{"width": ')
    assert remembered(JOB, "cpu", lambda: measured(3)) == measured(3)
    path.write_text('{"choice": {"sort": "batched"}, "width": 9}')
    assert remembered(JOB, "cpu", lambda: measured(4)) == measured(4)
    assert remembered(JOB, "cpu", never) == measured(4)


def test_where_nothing_can_be_kept_it_is_measured_each_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert [remembered(JOB, "cpu", lambda width=width: measured(width))["width"] for width in (3, 4)] == [3, 4]


def measure_slowly(answers, number):
    def measure():
        time.sleep(1.0)
        return measured(number)

    answers.put(remembered(JOB, "cpu", measure)["width"])


def test_of_those_that_ask_at_once_one_measures():
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [context.Process(target=measure_slowly, args=(answers, number)) for number in range(3)]
    for process in processes:
        process.start()
    found = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert len(found) == 1
