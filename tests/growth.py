"""Which machines Ray's autoscaler would start for lanes that wait, by its own scheduler: no cloud is asked."""

from __future__ import annotations

from collections import Counter

from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import GangResourceRequest

from losstune.search.lanes import bundle
from losstune.search.study import ResourcesPart


def started(config: AutoscalingConfig, lanes: int, **resources: object) -> dict[str, int]:
    """How many machines of which type, in a cluster without workers, for so many lanes of a study's `resources`."""
    wanted = ResourceRequestUtil.make(bundle(ResourcesPart(**resources)))
    request = SchedulingRequest(
        disable_launch_config_check=True, node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_nodes(), idle_timeout_s=config.get_idle_timeout_s(),
        # A lane waits in a placement group of its own.
        gang_resource_requests=[GangResourceRequest(requests=[wanted]) for _ in range(lanes)],
    )  # fmt: skip
    count: Counter[str] = Counter()
    for launch in ResourceDemandScheduler().schedule(request).to_launch:
        count[launch.instance_type] += launch.count
    return dict(count)
