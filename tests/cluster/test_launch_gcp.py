"""clusters/gcp.yaml launched as `ray up` does it, and its workers as the head does it.

In Google's place a few answers of this file, and the description of its interface that its client brings along: what
Ray would send to start a machine must be what that interface takes. Whether Google has such machines is not seen.
"""

import json
import re
from pathlib import Path

import pytest
import yaml
from growth import started
from launching import ROOT, Desk, impatient, until

discovery = pytest.importorskip("googleapiclient.discovery", reason="Google's client is in the extra gcp")
import httplib2  # noqa: E402
from googleapiclient.discovery_cache import DISCOVERY_DOC_DIR  # noqa: E402
from ray.autoscaler._private import commands  # noqa: E402
from ray.autoscaler._private.gcp import config as bootstrap  # noqa: E402
from ray.autoscaler._private.gcp import node, node_provider  # noqa: E402
from ray.autoscaler.v2.instance_manager.config import FileConfigReader  # noqa: E402
from ray.autoscaler.v2.instance_manager.node_provider import NodeProviderAdapter  # noqa: E402

FILE = ROOT / "clusters/gcp.yaml"


class Google:
    """A project's answers to what Ray asks. machines: what it was asked to start, and has not been told to end."""

    def __init__(self, folder):
        self.machines, self.bodies = {}, []
        self.interface = json.loads((folder / "compute.v1.json").read_text())["schemas"]

    def request(self, uri, method="GET", body=None, **_):
        path, _, query = uri.partition("?")
        answer = self._answer(method, path.split("googleapis.com/")[1], query, json.loads(body) if body else None)
        return httplib2.Response({"status": 200, "content-type": "application/json"}), json.dumps(answer).encode()

    def _answer(self, method, path, query, body):
        collection, name = path.split("/")[-2:]
        if path.endswith("/instances"):
            return self._start(body) if method == "POST" else {"items": self._labelled(query)}
        if path.endswith("/setLabels"):
            self.machines[collection]["labels"] = body["labels"]
        elif method == "DELETE":
            del self.machines[name]
        elif collection == "serviceAccounts":
            return {"email": name, "projectId": "my-project"}
        elif name == "subnetworks":
            return {"items": [{"selfLink": "the-default-one"}]}
        elif path.endswith("IamPolicy"):
            return {"bindings": []}
        elif collection == "projects":
            return {"projectId": name, "name": name, "lifecycleState": "ACTIVE", "commonInstanceMetadata": {}}
        return {"name": "operation", "status": "DONE"}

    def _start(self, body):
        self.bodies.append(body)
        number = len(self.bodies)
        network = {"networkIP": f"10.0.0.{number}", "accessConfigs": [{"natIP": f"192.0.2.{number}"}]}
        grown = {"status": "RUNNING", "labelFingerprint": "", "networkInterfaces": [network]}
        self.machines[body["name"]] = {**body, **grown}
        return {"name": "operation"}

    def _labelled(self, query):
        wanted = set(re.findall(r"labels\.([\w-]+)\+%3D\+([\w-]+)", query))
        return [machine for machine in self.machines.values() if wanted <= set(machine["labels"].items())]

    def strange(self, value, schema, where="Instance"):
        """What of a value the interface does not know."""
        schema = self.interface[schema["$ref"]] if "$ref" in schema else schema
        kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": float}
        if not isinstance(value, kinds[schema["type"]]) or value not in schema.get("enum", [value]):
            if not (schema.get("format") == "int64" and isinstance(value, int)):  # which may be numbers or text
                return [f"{where}: {value!r}"]
        if isinstance(value, list):
            return [said for one in value for said in self.strange(one, schema["items"], where)]
        if not isinstance(value, dict):
            return []
        known, other = schema.get("properties", {}), schema.get("additionalProperties")
        unknown = [] if other else [f"{where}.{name}" for name in value if name not in known]
        return unknown + [said for name, one in value.items() if known.get(name, other)
                          for said in self.strange(one, known.get(name, other), f"{where}.{name}")]  # fmt: skip


@pytest.fixture(scope="module")
def google():
    return Google(Path(DISCOVERY_DOC_DIR))


@pytest.fixture(scope="module")
def desk(tmp_path_factory, google):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httplib2.Http, "request", lambda _, *said, **named: google.request(*said, **named))
        for module in (bootstrap, commands, node):
            patch.setattr(module, "time", impatient())
        yield Desk(tmp_path_factory.mktemp("desk"), patch)


@pytest.fixture(scope="module")
def head(desk, google):
    """What Ray asks for when `ray up` starts the head."""
    config = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    config["provider"]["gcp_credentials"] = {"type": "credentials_token", "credentials": "nobody's"}
    commands.create_or_update_cluster(desk.place(config), None, None, no_restart=False, restart_only=False, yes=True)
    (body,) = google.bodies
    return body


@pytest.fixture(scope="module")
def autoscaler(desk, head):
    desk.arrive("192.0.2.1")
    reader = FileConfigReader(desk.home / "ray_bootstrap_config.yaml")
    config = reader.get_cached_autoscaling_config()
    provider = node_provider.GCPNodeProvider(config.get_provider_config(), config.get_config("cluster_name"))
    return NodeProviderAdapter(provider, reader)


@pytest.fixture(scope="module")
def workers(google, autoscaler):
    """What it asks for when two lanes on GPUs wait and one without, by type."""
    config = autoscaler._config_reader.get_cached_autoscaling_config()
    autoscaler.launch({**started(config, 2, gpus=1), **started(config, 1)}, "request")
    until(lambda: len(google.machines) == 4 or autoscaler._errors_queue.queue)
    assert not autoscaler.poll_errors()
    kinds = [body["labels"]["ray-user-node-type"] for body in google.bodies[1:]]
    assert sorted(kinds) == ["cpu", "gpu", "gpu"]
    return dict(zip(kinds, google.bodies[1:], strict=True))


def test_what_is_asked_is_what_the_interface_takes(google, head, workers):
    """To the last field."""
    for body in google.bodies:
        assert not google.strange(body, {"$ref": "Instance"})


def test_the_head_stays_and_workers_are_spot_machines(head, workers):
    """That are gone with their disks when they are taken back."""
    assert "scheduling" not in head and head["labels"]["ray-node-type"] == "head"
    assert head["machineType"] == "zones/europe-west4-a/machineTypes/e2-standard-2"
    for body in workers.values():
        assert body["scheduling"]["provisioningModel"] == "SPOT"
        assert body["scheduling"]["instanceTerminationAction"] == "DELETE"
    for body in (head, *workers.values()):
        assert [disk["autoDelete"] for disk in body["disks"]] == [True]
        assert [network["subnetwork"] for network in body["networkInterfaces"]] == ["the-default-one"]


def test_workers_may_use_the_bucket_and_the_head_may_start_them(head, workers):
    """Each by an account of its own: that of the workers has the roles that the file's commands give it, no others."""
    (of_head,) = head["serviceAccounts"]
    assert of_head["email"].startswith("ray-autoscaler-sa-v1@")
    for body in workers.values():
        (account,) = body["serviceAccounts"]
        assert account["email"] == "losstune-worker@my-project.iam.gserviceaccount.com"
        assert account["email"] in FILE.read_text(encoding="utf-8").partition("cluster_name")[0]


def test_the_head_is_set_up_before_ray_starts_there_without_slots(desk, head):
    """With the token, this checkout and what asks Google, in its versions."""
    run, carried = desk.commands("192.0.2.1"), desk.carried("192.0.2.1")
    assert carried["~/.ray/auth_token"]["text"] == "a token" and carried["~/losstune/"]["arguments"][-2] == "./"
    installs = [command for command in run if "pip install" in command]
    assert len(installs) == 2 and all("--constraint ~/losstune/constraints.txt" in command for command in installs)
    assert "losstune[cluster]" in installs[0] and "losstune[gcp]" in installs[1]
    assert "ray start --head" in run[-1] and """RAY_OVERRIDE_RESOURCES='{"CPU":0}'""" in run[-1]


def test_lanes_that_wait_get_the_machines_that_they_fit(autoscaler):
    """As many as the file allows, and none while no lane waits; those without GPU leave the GPUs alone."""
    config = autoscaler._config_reader.get_cached_autoscaling_config()
    assert started(config, 0) == {}
    assert started(config, 3, gpus=1, accelerator_type="L4", memory_gib=8) == {"gpu": 3}
    assert started(config, 8) == {"cpu": 1} and started(config, 9) == {"cpu": 2}
    assert started(config, 20, gpus=1) == {"gpu": 8}


def test_the_autoscaler_ends_its_workers(google, autoscaler, workers):
    mine = {name for name, machine in autoscaler.get_non_terminated().items() if machine.node_type != "head"}
    assert len(mine) == 3
    autoscaler.terminate(sorted(mine), "request")
    until(lambda: len(google.machines) == 1)
