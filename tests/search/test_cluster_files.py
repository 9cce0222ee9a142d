"""The files that launch clusters, as far as can be seen without an account: by Ray's own schema and defaults."""

import copy
from pathlib import Path

import pytest
import yaml
from growth import started
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr as derived
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

ROOT = Path(__file__).resolve().parents[2]
CLOUDS = ["cluster.yaml", "clusters/gcp.yaml"]
LAUNCHED = [*CLOUDS, "clusters/local.yaml"]


def read(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


@pytest.fixture
def prepared():
    """prepared(name): a cluster's file with Ray's defaults filled in, valid by its schema."""

    def call(name: str) -> dict:
        config = prepare_config(copy.deepcopy(read(name)))
        validate_config(config)
        return config

    return call


@pytest.mark.parametrize("name", CLOUDS)
def test_a_head_without_slots_and_workers_that_come_and_go(prepared, name):
    """By the minute, and as spot machines."""
    config = prepared(name)
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    assert head["resources"] == {"CPU": 0} and config["idle_timeout_minutes"] <= 5
    assert set(types) == {"gpu", "cpu"}
    for kind in types.values():
        assert kind["min_workers"] == 0 < kind["max_workers"] <= config["max_workers"]
        said = str(kind["node_config"])
        assert "'MarketType': 'spot'" in said or "'provisioningModel': 'SPOT'" in said
    assert "spot" not in str(head).lower()


@pytest.mark.parametrize("name", LAUNCHED)
def test_nobody_without_the_token_is_let_in(prepared, name):
    """Head and workers ask for it, the dashboard listens on loopback, and the token's file is nobody else's."""
    config = prepared(name)
    for side in ("head", "worker"):
        starts = [line for line in config[f"{side}_start_ray_commands"] if "ray start" in line]
        assert starts and all("RAY_AUTH_MODE=token" in line for line in starts)
    (head,) = [line for line in config["head_start_ray_commands"] if "ray start" in line]
    assert "--dashboard-host=127.0.0.1" in head and "0.0.0.0" not in (ROOT / name).read_text()
    assert "~/.ray/auth_token" in config["file_mounts"]
    assert any("chmod 600 ~/.ray/auth_token" in line for line in config["setup_commands"])


@pytest.mark.parametrize("name", LAUNCHED)
def test_this_checkout_is_installed_with_its_versions(prepared, name):
    """On every machine, before Ray starts there."""
    config = prepared(name)
    assert config["file_mounts"]["~/losstune"] == "."
    for side in ("head", "worker"):
        commands = "\n".join(config[f"{side}_setup_commands"])
        assert "--constraint ~/losstune/constraints.txt" in commands and "losstune[cluster]" in commands


def test_the_manifest_for_kubernetes_is_the_same_cluster():
    """As far as that can be seen without Kubernetes."""
    manifest = read("clusters/kuberay.yaml")
    spec = manifest["spec"]
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayCluster")
    assert spec["enableInTreeAutoscaling"] and spec["autoscalerOptions"]["version"] == "v2"
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    assert set(groups) == {"gpu", "cpu"} and all(group["minReplicas"] == 0 for group in groups.values())
    pods = [spec["headGroupSpec"]["template"]["spec"], *(group["template"]["spec"] for group in groups.values())]
    for pod in pods:
        (container,) = pod["containers"]
        names = {variable["name"] for variable in container["env"]}
        assert names >= {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} and pod["restartPolicy"] == "Never"
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_the_manifest_for_kubernetes_grows_for_the_lanes_that_wait():
    """As Ray's autoscaler reads it there: by what its containers may take."""
    manifest = read("clusters/kuberay.yaml")
    manifest["metadata"]["namespace"] = "default"
    config = AutoscalingConfig(derived(manifest), skip_content_hash=True)
    assert config.get_node_resources("headgroup")["CPU"] == 0 and config.get_idle_timeout_s() <= 300
    assert started(config, 0) == {}
    assert started(config, 3, gpus=1, memory_gib=8) == {"gpu": 3}
    assert started(config, 8) == {"cpu": 1} and started(config, 9) == {"cpu": 2}
    assert started(config, 20, gpus=1) == {"gpu": 8}
