"""How many lanes there are to be, and what each takes of a machine."""

from types import SimpleNamespace

import pytest

from losstune.search.lanes import _slots, bundle
from losstune.search.study import ResourcesPart
from losstune.spaces import InputError

MACHINE = {"CPU": 8.0, "GPU": 2.0, "memory": 16.0 * 2**30, "accelerator_type:A100": 1.0}


def slots(cluster: dict, scales: bool = False, **resources) -> int:
    study = SimpleNamespace(resources=ResourcesPart(**resources), where="my.yaml")
    return _slots(SimpleNamespace(study=study), cluster, scales)


def test_what_a_lane_takes_in_rays_terms():
    """What is not asked for is not named."""
    assert bundle(ResourcesPart()) == {"CPU": 1}
    found = bundle(ResourcesPart(cpus=2, gpus=0.5, memory_gib=1.5, accelerator_type="A100"))
    assert found == {"CPU": 2, "GPU": 0.5, "memory": 1.5 * 2**30, "accelerator_type:A100": 0.001}


@pytest.mark.parametrize(
    ("resources", "count"),
    [({}, 8), ({"cpus": 3}, 2), ({"gpus": 1}, 2), ({"gpus": 0.5}, 4), ({"memory_gib": 5}, 3), ({"max_lanes": 3}, 3),
     ({"gpus": 1, "accelerator_type": "A100"}, 2), ({"max_lanes": 100}, 8)],
)  # fmt: skip
def test_as_many_lanes_as_fit(resources, count):
    """On a machine, which does not grow."""
    assert slots(MACHINE, **resources) == count


@pytest.mark.parametrize("cluster", [{}, {"CPU": 1.0}, MACHINE])
def test_a_cluster_is_asked_for_as_many_as_the_study_may_have(cluster):
    """Those for which there is no room yet are what it grows for."""
    assert slots(cluster, scales=True, max_lanes=5) == 5


@pytest.mark.parametrize(
    ("resources", "scales", "said"),
    [({"cpus": 9}, False, "my.yaml: resources: a lane takes 9 CPU, of which there is 8 CPU$"),
     ({"memory_gib": 20}, False, "a lane takes 20 GiB of memory, of which there is 16 GiB of memory$"),
     ({"gpus": 1, "accelerator_type": "H100"}, True, "0.001 accelerator_type:H100, of which there is 0 .*; allowed: "
      "less, or resources.max_lanes, for a cluster that grows")],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(resources, scales, said):
    with pytest.raises(InputError, match=said):
        slots(MACHINE, scales, **resources)
