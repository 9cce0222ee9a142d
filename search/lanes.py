"""The Tuner that places, restarts and ends lanes. A Ray Tune trial is a lane, not a configuration."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from losstune.search.conductor_actor import ConductorActor
from losstune.search.job import make_job
from losstune.search.ledger.database import Ledger
from losstune.search.plan import Plan
from losstune.search.signals import kept, python_handler_kept
from losstune.search.study import ResourcesPart
from losstune.spaces import InputError, StudyStopped
from losstune.trainables.disk import disk_trouble

ENDING_SECONDS = 30.0  # in which Tune ends when it is told to; where machines are gone it may wait for them
HEALTH_SECONDS = 3.0  # between looks at whether the conductor is well
# What Ray and Tune would print or write beside what losstune itself does.
_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_DISABLE_SIGINT_HANDLER": "1", "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "RAY_AIR_NEW_OUTPUT": "0", "RAY_DEDUP_LOGS": "0", "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",  # of Ray's C++, which also takes SIGTERM for a failure, and aborts
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}  # fmt: skip

# Without a cluster Ray's processes listen on loopback, as by itself on a Mac; else they would on every address.
_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


class Running:
    """Lanes at work for a study, in the background. Leave the context to let Ray go."""

    def __init__(self, plan: Plan, ledger: Ledger, folder: Path, address: str | None):
        self.plan, self.ledger, self.folder, self.address = plan, ledger, folder, address
        self.error: BaseException | None = None
        self._done, self._checked = threading.Event(), 0.0
        self._local_files = contextlib.ExitStack()
        self._going: threading.Thread | None = None

    def __enter__(self) -> Running:
        for name, value in (_QUIET | (_ALONE if self.address is None else {})).items():
            os.environ.setdefault(name, value)
        import ray

        rest = threading.Thread(target=_import_what_tune_needs, daemon=True)  # while Ray's own processes come up
        rest.start()
        with python_handler_kept(), kept(signal.SIGTERM):
            self._init_ray()
        rest.join()
        for name in ("ray", "ray.tune"):
            # A lane that died is started again and recorded as an event: forty lines of traceback help nobody.
            logging.getLogger(name).setLevel(logging.CRITICAL)
        from losstune.search.when_over import WhenOver

        try:
            self._job = make_job(self.plan, self.folder)
            self._stopper = WhenOver()
            self.slots = _slots(self.plan, ray.cluster_resources(), self.address is not None)
            self._conductor = self._start_conductor()
            self._thread = threading.Thread(target=self._fit, daemon=True)
            self._thread.start()
        except BaseException:
            ray.shutdown()
            raise
        return self

    def _init_ray(self) -> None:
        import ray

        own = {"include_dashboard": False} if self.address is None else {}
        try:
            ray.init(address=self.address, log_to_driver=False, logging_level=logging.ERROR,
                     namespace=f"losstune-{os.getpid()}", **own)  # fmt: skip
        except Exception as error:
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            if self.address is not None:
                raise InputError(f"--address {self.address}: no Ray cluster answers there ({said}); allowed: HOST:PORT "
                                 "of one, or auto where one runs") from error  # fmt: skip
            if disk_trouble(error):
                raise
            raise StudyStopped(f"Ray did not start ({said})") from error

    def __exit__(self, *exception: Any) -> None:
        self.let_go()
        self._going.join()
        self._local_files.close()

    def let_go(self) -> None:
        """Let Ray end, in the background."""
        if self._going is None:
            self._going = threading.Thread(target=self._end)
            self._going.start()

    def _end(self) -> None:
        """End Tune, then Ray: let go under Tune it would end this process with a status of its own."""
        self._stopper.over = True
        self._done.wait(ENDING_SECONDS)
        import ray

        # A handle of Tune's that is collected while Ray goes ends this process: so before, or after.
        gc.collect()
        gc.disable()
        try:
            with kept(signal.SIGTERM):  # else a run that is told to end while it writes its report would be killed
                ray.shutdown()
        finally:
            gc.enable()

    def wait(self, seconds: float) -> bool:
        """Whether the lanes have ended, waiting up to so long; raises what ended them if it was an error."""
        done = self._done.wait(seconds)
        if done and self.error is not None:
            raise _in_plain_words(self.error)
        if not done and time.monotonic() - self._checked > HEALTH_SECONDS:
            return self._check_health()
        return done

    def _check_health(self) -> bool:
        """Whether all is done, though Ray may still wait to place lanes on machines that are gone.

        Raises StudyStopped when the conductor is gone or broken: lanes would be restarted for ever.
        """
        import ray

        try:
            asked = [self._conductor.broken.remote(), self._conductor.over.remote()]
            broken, over = ray.get(asked, timeout=600)
        except ray.exceptions.RayError as error:
            broken = f"the conductor's process is gone ({type(error).__name__})"
        if broken:
            raise StudyStopped(broken)
        self._checked = time.monotonic()
        return over

    def stop(self) -> None:
        """Ask the lanes to park their trials after a checkpoint and to end."""
        self._conductor.call.remote("stop")

    def _start_conductor(self) -> Any:
        """The conductor's actor, on this node, where the ledger is; it takes no slot."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        plan = self.plan
        self._test = ray.put((plan.test, plan.others))
        scorer = self._job.scorer
        floor = {name: scorer.floor(plan.train.y, split)
                 for name, split in (("validation", plan.validation), ("test", plan.test))}  # fmt: skip

        home = ray.get_runtime_context().get_node_id()
        here = NodeAffinitySchedulingStrategy(home, soft=False)
        return ray.remote(num_cpus=0, scheduling_strategy=here)(ConductorActor).remote(
            self.ledger.at, self.ledger.generation, plan.study, floor, plan.metric.greater_is_better, [self._test],
            self.slots, home,
        )  # fmt: skip

    def _fit(self) -> None:
        try:
            result = self._tuner().fit()
            if result.num_errors:
                raise RuntimeError(str(result.errors[0]))
        except BaseException as error:  # it is raised again where wait is called
            self.error = error
        finally:
            self._done.set()

    def _tuner(self) -> Any:
        import ray
        from ray import tune

        from losstune.search.lane_deaths import LaneDeaths
        from losstune.trainables.tune_lane import LaneTrainable

        plan, resources = self.plan, self.plan.study.resources
        slot = tune.PlacementGroupFactory([bundle(resources)])
        self._data = ray.put((plan.train, plan.validation))
        lane = tune.with_parameters(LaneTrainable, conductor=self._conductor, data=[self._data], job=self._job)
        storage = self._local_files.enter_context(
            tempfile.TemporaryDirectory(prefix="losstune-", ignore_cleanup_errors=True)
        )
        return tune.Tuner(
            tune.with_resources(lane, slot),
            param_space={"threads": max(1, int(resources.cpus)), "alone": self.slots == 1},
            tune_config=tune.TuneConfig(num_samples=self.slots, reuse_actors=False),
            run_config=tune.RunConfig(
                name="lanes", storage_path=storage, verbose=0, stop=self._stopper,
                callbacks=[LaneDeaths(self._conductor)],
                failure_config=tune.FailureConfig(max_failures=-1),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False, checkpoint_frequency=0),
            ),
        )  # fmt: skip


def _in_plain_words(error: BaseException) -> BaseException:
    """What ended the lanes. If Ray ended more than a lane because memory ran out, it is no fault of the program."""
    if "out of memory" in str(error).lower():
        return StudyStopped("Ray ended one of its processes for want of memory")
    return error


def _import_what_tune_needs() -> None:
    """The packages of others that Ray Tune imports, which take most of its time."""
    for name in ("pandas", "pyarrow.fs", "fsspec", "requests"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def bundle(resources: ResourcesPart) -> dict[str, float]:
    """What a lane takes of a machine, as Ray counts it."""
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": (resources.memory_gib or 0) * 2**30}
    if resources.accelerator_type:
        wanted[f"accelerator_type:{resources.accelerator_type}"] = 0.001  # each such machine has 1 of it
    return {name: amount for name, amount in wanted.items() if amount}


def _slots(plan: Plan, cluster: dict[str, float], scales: bool) -> int:
    """How many lanes: as many as fit the cluster as it is, within the study's bound. scales: whether it may grow.

    One that may grow is asked for as many as the study allows: lanes that wait are what it grows for.
    """
    resources, wanted = plan.study.resources, bundle(plan.study.resources)
    if scales and resources.max_lanes:
        return resources.max_lanes
    fits = min(cluster.get(name, 0) // amount for name, amount in wanted.items())
    if fits < 1:
        lacking = "; ".join(f"{_amount(name, amount)}, of which there is {_amount(name, cluster.get(name, 0))}"
                            for name, amount in wanted.items() if cluster.get(name, 0) < amount)  # fmt: skip
        grows = "; allowed: less, or resources.max_lanes, for a cluster that grows" if scales else ""
        raise InputError(f"{plan.study.where}: resources: a lane takes {lacking}{grows}")
    return int(min(fits, resources.max_lanes)) if resources.max_lanes else int(fits)


def _amount(name: str, amount: float) -> str:
    return f"{amount / 2**30:.3g} GiB of memory" if name == "memory" else f"{amount:g} {name}"
