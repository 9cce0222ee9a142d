"""cluster.yaml launched as `ray up` does it, and its workers as the head does it, on moto in AWS's place.

What moto cannot tell: whether AWS has such machines to give, what the image has, and how what is run there ends.
"""

import re
import shlex

import pytest
import yaml
from growth import started
from launching import ROOT, Desk, impatient, until

moto = pytest.importorskip("moto", reason="moto, which stands in for AWS, is in the extra cluster-test")
boto3 = pytest.importorskip("boto3", reason="boto3, by which Ray asks AWS, is in the extra aws")

from ray.autoscaler._private import commands  # noqa: E402
from ray.autoscaler._private.aws import config as bootstrap  # noqa: E402
from ray.autoscaler._private.aws import node_provider, utils  # noqa: E402
from ray.autoscaler.v2.instance_manager.config import FileConfigReader  # noqa: E402
from ray.autoscaler.v2.instance_manager.node_provider import NodeProviderAdapter  # noqa: E402
from ray.autoscaler.v2.instance_manager.ray_installer import RayInstaller  # noqa: E402
from ray.core.generated.instance_manager_pb2 import Instance  # noqa: E402

TEXT = (ROOT / "cluster.yaml").read_text(encoding="utf-8")
ACCESS = (ROOT / "clusters/aws-access.yaml").read_text(encoding="utf-8")
HERE = "203.0.113.7"  # of the range kept for documents


class Account:
    """An account of AWS, in which the user has done what the head of cluster.yaml says is done once."""

    def __init__(self):
        region = yaml.safe_load(TEXT)["provider"]["region"]
        self.ec2, self.iam = boto3.client("ec2", region), boto3.client("iam", region)
        stacks = boto3.client("cloudformation", region)
        said = re.sub(r"\$\(curl -s [^)]*\)", HERE, TEXT)
        (command,) = [shlex.split(line)[1:] for line in said.splitlines() if "aws cloudformation deploy" in line]
        asked = dict(zip(command[3::2], command[4::2], strict=True))
        assert asked["--template-file"] == "clusters/aws-access.yaml"
        name, _, value = asked["--parameter-overrides"].partition("=")
        stacks.create_stack(
            StackName=asked["--stack-name"], TemplateBody=ACCESS, Capabilities=[asked["--capabilities"]],
            Parameters=[{"ParameterKey": name, "ParameterValue": value}],
        )  # fmt: skip
        (stack,) = stacks.describe_stacks(StackName="losstune")["Stacks"]
        answered = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
        self.group, self.bucket = answered["Group"], answered["Bucket"]
        self.config = yaml.safe_load(TEXT.replace("sg-0123456789abcdef0", self.group))

    def machines(self, state: str = "running", **tags: str) -> list[dict]:
        found = [machine for made in self.ec2.describe_instances()["Reservations"] for machine in made["Instances"]]
        wanted = {name.replace("_", "-"): value for name, value in tags.items()}.items()
        return [machine for machine in found if machine["State"]["Name"] == state and wanted <= _tags(machine).items()]

    def rules(self) -> dict[str, list[dict]]:
        """What each security group lets in."""
        groups = self.ec2.describe_security_groups()["SecurityGroups"]
        return {group["GroupId"]: group["IpPermissions"] for group in groups}

    def disk(self, machine: dict) -> dict:
        (disk,) = machine["BlockDeviceMappings"]
        (volume,) = self.ec2.describe_volumes(VolumeIds=[disk["Ebs"]["VolumeId"]])["Volumes"]
        return {"gib": volume["Size"], "kind": volume["VolumeType"], "goes": disk["Ebs"]["DeleteOnTermination"]}


class _Template(yaml.SafeLoader):
    """Reads what a template says, "!Ref X" as "X"."""


_Template.add_multi_constructor("!", lambda loader, _, node: loader.construct_scalar(node))
MADE = yaml.load(ACCESS, _Template)["Resources"]
ROLES = {name: made["Properties"] for name, made in MADE.items() if made["Type"] == "AWS::IAM::Role"}


def may(role: str) -> set[tuple[str, str]]:
    """What a role's own policies allow, to what."""
    found = set()
    for policy in ROLES[role]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            actions = statement["Action"]
            found |= {(one, statement["Resource"]) for one in ([actions] if isinstance(actions, str) else actions)}
    return found


def _tags(machine: dict) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in machine["Tags"]}


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "nobody")
        for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        for module in (bootstrap, commands):
            patch.setattr(module, "time", impatient())
        patch.setattr(node_provider, "TAG_BATCH_DELAY", 0)
        yield Desk(tmp_path_factory.mktemp("desk"), patch)


@pytest.fixture(scope="module")
def account(desk):
    caches = (utils.resource_cache, utils.client_cache, bootstrap._get_subnets_or_die)
    with moto.mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        for cache in caches:
            cache.cache_clear()
        yield Account()
    for cache in caches:
        cache.cache_clear()


@pytest.fixture(scope="module")
def file(desk, account):
    return desk.place(account.config)


@pytest.fixture(scope="module")
def head(desk, account, file):
    """The machine that `ray up` starts."""
    account.before = account.rules()
    commands.create_or_update_cluster(file, None, None, no_restart=False, restart_only=False, yes=True)
    (machine,) = account.machines()
    return machine


@pytest.fixture(scope="module")
def autoscaler(desk, head):
    """What the autoscaler of the head is made of, from the file that `ray up` copied there."""
    desk.arrive(head["PublicIpAddress"])
    reader = FileConfigReader(desk.home / "ray_bootstrap_config.yaml")
    config = reader.get_cached_autoscaling_config()
    provider = node_provider.AWSNodeProvider(config.get_provider_config(), config.get_config("cluster_name"))
    return NodeProviderAdapter(provider, reader)


@pytest.fixture(scope="module")
def workers(account, autoscaler):
    """The machine of a lane on a GPU, and that of one without, by type: moto gives but one for each request."""
    config = autoscaler._config_reader.get_cached_autoscaling_config()
    autoscaler.launch({**started(config, 1, gpus=1), **started(config, 1)}, "request")
    until(lambda: len(account.machines()) == 3 or autoscaler._errors_queue.queue)
    assert not autoscaler.poll_errors()
    return {_tags(machine)["ray-user-node-type"]: machine for machine in account.machines(ray_node_type="worker")}


def test_a_group_that_was_not_made_starts_nothing(account, capfd):
    """Rather than one of Ray's, which lets the world in."""
    before = account.rules()
    with pytest.raises(AssertionError):
        commands._bootstrap_config(yaml.safe_load(TEXT), no_config_cache=True)
    assert "Failed to detect a security group" in capfd.readouterr().err
    assert account.rules() == before and not account.machines()


def test_nothing_is_open_but_ssh_from_one_place_and_the_cluster_to_itself(account, head, workers):
    """Ray adds neither a group nor a rule to what the user made."""
    assert account.rules() == account.before
    for machine in account.machines():
        assert [group["GroupId"] for group in machine["SecurityGroups"]] == [account.group]
    ssh, itself = account.rules()[account.group]
    assert (ssh["IpProtocol"], ssh["FromPort"], ssh["ToPort"]) == ("tcp", 22, 22) and not ssh["UserIdGroupPairs"]
    assert [block["CidrIp"] for block in ssh["IpRanges"]] == [f"{HERE}/32"] and not ssh["Ipv6Ranges"]
    assert [pair["GroupId"] for pair in itself["UserIdGroupPairs"]] == [account.group]
    assert itself["IpProtocol"] == "-1" and not itself["IpRanges"] and not itself["Ipv6Ranges"]


def test_the_head_stays_and_may_start_workers(account, head):
    """On demand, with a role, a key and a disk that goes with it."""
    assert head["InstanceType"] == "m7i.large" and "InstanceLifecycle" not in head
    assert head["IamInstanceProfile"]["Arn"].endswith("/losstune-head")
    assert ROLES["HeadRole"]["ManagedPolicyArns"] == ["arn:aws:iam::aws:policy/AmazonEC2FullAccess"]
    assert may("HeadRole") - may("WorkerRole") == {("iam:PassRole", "WorkerRole.Arn")}
    assert head["KeyName"] == "ray-autoscaler_eu-central-1" and head["SubnetId"]
    assert account.disk(head) == {"gib": 100, "kind": "gp3", "goes": True}
    assert _tags(head).items() >= {"ray-node-type": "head", "ray-user-node-type": "head", "Name": "ray-losstune-head",
                                   "ray-cluster-name": "losstune", "ray-node-status": "up-to-date"}.items()  # fmt: skip


def test_the_head_is_set_up_before_ray_starts_there_without_slots(desk, head):
    """With the token, this checkout and what asks AWS, in its versions."""
    run, carried = desk.commands(head["PublicIpAddress"]), desk.carried(head["PublicIpAddress"])
    assert carried["~/.ray/auth_token"]["text"] == "a token" and carried["~/losstune/"]["arguments"][-2] == "./"
    assert "BEGIN RSA PRIVATE KEY" in carried["~/ray_bootstrap_key.pem"]["text"]
    installs = [command for command in run if "pip install" in command]
    assert len(installs) == 2 and all("--constraint ~/losstune/constraints.txt" in command for command in installs)
    assert "losstune[cluster]" in installs[0] and "losstune[aws,postgresql]" in installs[1]
    (start,) = [command for command in run if "ray start" in command]
    assert run[-1] == start and run.index("chmod 600 ~/.ray/auth_token") < run.index(installs[0])
    assert """RAY_OVERRIDE_RESOURCES='{"CPU":0}'""" in start and "RAY_enable_autoscaler_v2=1" in start
    assert f"RAY_CLOUD_INSTANCE_ID={head['InstanceId']}" in start


def test_lanes_that_wait_get_the_machines_that_they_fit(autoscaler):
    """As many as the file allows, and none while no lane waits; those without GPU leave the GPUs alone."""
    config = autoscaler._config_reader.get_cached_autoscaling_config()
    assert started(config, 0) == {}
    assert started(config, 3, gpus=1, accelerator_type="L4", memory_gib=8) == {"gpu": 3}
    assert started(config, 8, gpus=0.25) == {"gpu": 2}
    assert started(config, 16) == {"cpu": 1} and started(config, 17) == {"cpu": 2}
    assert started(config, 20, gpus=1) == {"gpu": 8}
    assert started(config, 1, cpus=64) == {}


def test_workers_are_spot_machines(account, head, workers):
    """In the network of the head, with a role of their own."""
    kinds = {kind: machine["InstanceType"] for kind, machine in workers.items()}
    assert kinds == {"gpu": "g6.xlarge", "cpu": "c7i.4xlarge"}
    for machine in workers.values():
        assert machine["InstanceLifecycle"] == "spot" and machine["KeyName"] == head["KeyName"]
        assert machine["VpcId"] == head["VpcId"]
        assert machine["IamInstanceProfile"]["Arn"].endswith("/losstune-worker")
        assert account.disk(machine) == {"gib": 100, "kind": "gp3", "goes": True}
        assert _tags(machine).items() >= {"Name": "ray-losstune-worker", "ray-cluster-name": "losstune"}.items()


def test_the_template_is_one_that_aws_takes():
    """It refuses YAML's aliases, which moto does not mind."""
    assert not [token for token in yaml.scan(ACCESS) if isinstance(token, yaml.AliasToken | yaml.AnchorToken)]


def test_workers_may_use_the_bucket_and_nothing_else(account):
    """But for what the head may besides."""
    assert {resource for _, resource in may("WorkerRole")} == {"Bucket.Arn", "${Bucket.Arn}/*"}
    assert {action for action, _ in may("WorkerRole")} >= {"s3:ListBucket", "s3:GetObject", "s3:PutObject"}
    assert "ManagedPolicyArns" not in ROLES["WorkerRole"]
    (profile,) = account.iam.list_instance_profiles_for_role(RoleName="losstune-worker")["InstanceProfiles"]
    assert profile["InstanceProfileName"] == "losstune-worker"
    assert set(MADE["Bucket"]["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}


def test_a_worker_is_set_up_by_the_head(desk, head, autoscaler, workers):
    """Over the network that they share, with the token and the checkout of the head."""
    machine, address = workers["gpu"], workers["gpu"]["PrivateIpAddress"]
    config = autoscaler._config_reader.get_cached_autoscaling_config()
    assert machine["InstanceId"] in autoscaler.get_non_terminated()  # from which Ray knows its tags
    instance = Instance(cloud_instance_id=machine["InstanceId"], instance_type="gpu")
    RayInstaller(autoscaler.v1_provider, config).install_ray(instance, head["PrivateIpAddress"])
    run, carried = desk.commands(address), desk.carried(address)
    assert carried["~/.ray/auth_token"]["text"] == "a token"
    assert carried["~/losstune/"]["arguments"][-2] == str(desk.home / "losstune") + "/"
    (start,) = [command for command in run if "ray start" in command]
    assert start.endswith("RAY_AUTH_MODE=token ray start --address=$RAY_HEAD_IP:6379")
    assert f"RAY_HEAD_IP={head['PrivateIpAddress']};" in start and '"GPU":1' in start
    assert "losstune drain-on-notice --cloud aws" in run[-1]
    assert any("losstune[cluster]" in command for command in run) and not any("[aws]" in command for command in run)


def test_the_autoscaler_ends_a_worker(account, autoscaler, workers):
    """Rather than to stop it, which would leave its disk to be paid for."""
    gone = workers["cpu"]["InstanceId"]
    assert gone in autoscaler.get_non_terminated()
    autoscaler.terminate([gone], "request")
    until(lambda: gone in {machine["InstanceId"] for machine in account.machines("terminated")})
    assert gone not in autoscaler.get_non_terminated() and len(account.machines()) == 2


def test_ray_down_ends_every_machine(desk, account, file, head, workers):
    commands.teardown_cluster(file, yes=True, workers_only=False, override_cluster_name=None, keep_min_workers=False)
    assert desk.commands(head["PublicIpAddress"])[-1] == "ray stop"
    assert not account.machines() and not account.machines("stopped") and len(account.machines("terminated")) == 3
    assert not account.ec2.describe_volumes()["Volumes"]
