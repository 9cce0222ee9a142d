"""The recipe as data: what lanes are sent, and a key of what they keep."""

import dataclasses
import pickle
import subprocess
import sys

import pytest

from losstune.trainables.recipe import Recipe
from losstune.trainables.schedules import Exponential, Schedule

KORNBLITH = {"epochs": 196, "batch_size": 4096, "schedule": Schedule(Exponential(0.975), warmup=10), "average": 0.9999,
             "weight_decay_as": "coefficient", "augmentation": (("flip", ()),)}  # fmt: skip


def test_a_recipe_is_data():
    """Two of the same fields are one key, wherever they were made; none can be changed."""
    recipe = Recipe(**KORNBLITH)
    assert {recipe: 1}[pickle.loads(pickle.dumps(recipe))] == 1 and recipe != Recipe()
    assert dataclasses.replace(recipe, epochs=10).schedule == recipe.schedule
    with pytest.raises(dataclasses.FrozenInstanceError):
        recipe.epochs = 3


def test_a_recipe_is_made_without_torch():
    """The command line makes and checks recipes before it loads what trains."""
    code = "import sys, losstune.trainables.recipe as r; r.Recipe(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
