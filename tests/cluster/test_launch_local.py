"""clusters/local.yaml launched as `ray up` does it, its workers as the head does it, on machines that only listen."""

import pytest
import yaml
from launching import ROOT, Desk, impatient
from ray.autoscaler._private import commands
from ray.autoscaler._private.local.node_provider import LocalNodeProvider
from ray.autoscaler.v2.instance_manager.config import FileConfigReader
from ray.autoscaler.v2.instance_manager.ray_installer import RayInstaller
from ray.core.generated.instance_manager_pb2 import Instance

HEAD, WORKERS = "192.168.0.10", ["192.168.0.11", "192.168.0.12"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "time", impatient())
        yield Desk(tmp_path_factory.mktemp("desk"), patch)


@pytest.fixture(scope="module")
def config(desk):
    """What the autoscaler of the head reads, of the head that `ray up` has set up."""
    (desk.home / ".ssh/id_ed25519").write_text("a key")
    file = desk.place(yaml.safe_load((ROOT / "clusters/local.yaml").read_text(encoding="utf-8")))
    commands.create_or_update_cluster(file, None, None, no_restart=False, restart_only=False, yes=True)
    desk.arrive(HEAD)
    return FileConfigReader(desk.home / "ray_bootstrap_config.yaml").get_cached_autoscaling_config()


def test_the_head_is_set_up_before_ray_starts_there_without_slots(desk, config):
    """With the token, this checkout and the key to the workers."""
    run, carried = desk.commands(HEAD), desk.carried(HEAD)
    assert carried["~/.ray/auth_token"]["text"] == "a token" and carried["~/losstune/"]["arguments"][-2] == "./"
    assert carried["~/ray_bootstrap_key.pem"]["text"] == "a key"
    assert any("losstune[cluster]" in command for command in run[:-1])
    assert "ray start --head" in run[-1] and "--num-cpus=0 --num-gpus=0" in run[-1]
    assert "RAY_AUTH_MODE=token" in run[-1]


def test_the_first_autoscaler_is_asked_for(desk, config):
    """The second takes the head for a worker and starts none: tried on two machines. Ray itself asks for the second."""
    asked = [part.rstrip(";") for part in desk.commands(HEAD)[-1].split() if "RAY_enable_autoscaler_v2=" in part]
    assert asked[-1] == "RAY_enable_autoscaler_v2=0"


def test_jobs_find_the_python_that_losstune_is_installed_for(desk, config):
    """Also where ~/.bashrc puts another one first, which a shell reads that takes itself for one of SSH."""
    start = desk.commands(HEAD)[-1]
    assert start.index("unset SSH_CLIENT SSH_CONNECTION") < start.index("ray start")
    assert start.index("PATH=$HOME/venv/bin:$PATH") < start.index("ray start")


def test_all_workers_are_started_whether_or_not_lanes_wait(config):
    """For Ray does not know beforehand what they have; what they have then, it counts."""
    (kind,) = config.get_node_type_configs().values()
    assert kind.min_worker_nodes == len(WORKERS)


def test_a_worker_is_set_up_by_the_head(desk, config):
    """With the token and the checkout of the head."""
    provider = LocalNodeProvider(config.get_provider_config(), config.get_config("cluster_name"))
    tags = {"ray-node-type": "worker", "ray-user-node-type": "local.cluster.node", "ray-node-status": "uninitialized"}
    provider.create_node({}, tags, len(WORKERS))
    assert provider.non_terminated_nodes({"ray-node-type": "worker"}) == WORKERS
    instance = Instance(cloud_instance_id=WORKERS[0], instance_type="local.cluster.node")
    RayInstaller(provider, config).install_ray(instance, HEAD)
    run, carried = desk.commands(WORKERS[0]), desk.carried(WORKERS[0])
    assert carried["~/.ray/auth_token"]["text"] == "a token" and not desk.commands(WORKERS[1])
    assert f"RAY_HEAD_IP={HEAD};" in run[-1] and "ray start --address=$RAY_HEAD_IP:6379" in run[-1]
