"""The peer: a search in stock Ray Tune, as its documentation has it. benchmarks/search.py writes its task and runs it.

    python benchmarks/peer.py FOLDER [--reuse]    # reads FOLDER/task.json and FOLDER/data.npz, writes FOLDER/peer.json

What is chosen where the documentation leaves a choice, and the page that it is from:
- One trial per configuration and seed: "Repeated Evaluations (tune.search.Repeater)". That page would rather have no
  early stopping beside it; without ASHA this search would train 27 epochs of every trial.
- A trial is a training function ("Training in Tune": the Function API is what is generally recommended), one process
  each, which is what TuneConfig does by default. With --reuse it is a class with reset_config and reuse_actors=True
  ("Reusing Actors" on the same page), so that libraries and data are loaded once per core.
- One Tuner per loss, one loss after the other: a loss has a space of its own, and a Tuner has one searcher.
- Data that fit in memory go through tune.with_parameters ("Getting Data in and out of Tune"); image files are read by
  every trial, by torchvision, as in the examples mnist_pytorch and cifar10_pytorch.
- MLflowLoggerCallback as in "Using MLflow with Tune", without save_artifact, which would copy every trial's files.
- DataLoader with its default of no worker processes: two trials on two cores leave none for them.
- A trial on {"cpu": 1} has one thread: Ray sets OMP_NUM_THREADS.

Most of what a process of its own costs a short trial is imports: torch, Tune, and torch._dynamo, which the first
torch.optim optimizer brings; some 4 s of a core.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import ray
import torch
from ray import tune
from ray.air.integrations.mlflow import MLflowLoggerCallback
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Repeater
from ray.tune.search.optuna import OptunaSearch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

NOT_OF_THE_LOSS = ("learning_rate", "weight_decay", "loss", "__trial_index__")


class Training:
    """A plain PyTorch training of one configuration and seed, which both kinds of trial use."""

    def __init__(self, config: dict, task: dict, data: dict):
        self.task = task
        train, validation = images(task, data) if task["root"] else tensors(data)
        self.train_loader = DataLoader(train, batch_size=task["batch_size"], shuffle=True, drop_last=True)
        self.validation_loader = DataLoader(validation, batch_size=1024)
        self.restart(config)

    def restart(self, config: dict) -> None:
        """A fresh network, criterion and optimizer; the data stay."""
        torch.manual_seed(config["__trial_index__"])
        self.network, self.criterion = network_and_criterion(config, self.task)
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), lr=config["learning_rate"], momentum=self.task["momentum"], nesterov=True,
            weight_decay=config["weight_decay"] / config["learning_rate"],  # the study's is the product of the two
        )  # fmt: skip
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, self.task["epochs"])
        self.epochs = 0

    def epoch(self) -> dict[str, float]:
        """Train for an epoch; the accuracy on validation. Its seconds go to a file, which spares MLflow a metric."""
        started = time.perf_counter()
        self.train()
        accuracy = self.accuracy()
        with open(self.task["seconds"], "a") as file:
            file.write(f"{time.perf_counter() - started}\n")
        return {"accuracy": accuracy}

    def train(self) -> None:
        self.network.train()
        progress = self.epochs / self.task["epochs"]
        for x, targets in self.train_loader:
            self.optimizer.zero_grad()
            self.criterion(self.features(x), targets, progress).backward()
            self.optimizer.step()
        self.scheduler.step()
        self.epochs += 1

    def features(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.task["precision"] == "bfloat16"):
            return self.network[0](x)

    @torch.no_grad()
    def accuracy(self) -> float:
        self.network.eval()
        correct = total = 0
        for x, targets in self.validation_loader:
            correct += (self.network[1](self.features(x).float()).argmax(1) == targets).sum().item()
            total += len(targets)
        return correct / total


def tensors(data: dict) -> tuple[Any, Any]:
    """Data in memory, normalized already: training and validation."""
    parts = [(data[f"x_{part}"], data[f"y_{part}"]) for part in ("train", "validation")]
    return tuple(TensorDataset(torch.tensor(x), torch.tensor(y)) for x, y in parts)


def images(task: dict, data: dict) -> tuple[Any, Any]:
    """Fashion-MNIST as torchvision has it: an image at a time, through PIL and torchvision's transforms."""
    from torchvision import transforms
    from torchvision.datasets import FashionMNIST

    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((float(data["mean"]),), (float(data["deviation"]),))]
    )
    whole = FashionMNIST(task["root"], train=True, transform=transform)
    return tuple(Subset(whole, data[part].tolist()) for part in ("train", "validation"))


def network_and_criterion(config: dict, task: dict) -> tuple[nn.ModuleList, Any]:
    """Backbone and final layer; the criterion, of features, targets and progress to the batch's mean.

    Cross-entropy is PyTorch's own; what PyTorch does not have is losstune's module for one's own training loop.
    """
    from losstune import make_head
    from losstune.trainables.architectures.networks import build_network, split_final_layer

    network = build_network(task["network"], tuple(task["input_shape"]), task["classes"])
    backbone, features = split_final_layer(network, task["classes"])
    if config["loss"] == "softmax":
        final, cross_entropy = nn.Linear(features, task["classes"]), nn.CrossEntropyLoss()
        return nn.ModuleList([backbone, final]), lambda x, targets, _: cross_entropy(final(x.float()), targets)
    own = {name: value for name, value in config.items() if name not in NOT_OF_THE_LOSS}
    head = make_head(config["loss"], features, task["classes"], **own)
    return nn.ModuleList([backbone, head]), lambda x, targets, progress: head.loss(x, targets, progress).mean()


def train(config: dict, task: dict, data: dict) -> None:
    """A trial as a function."""
    training = Training(config, task, data)
    for _ in range(task["epochs"]):
        tune.report(training.epoch())


class Reusable(tune.Trainable):
    """A trial as a class whose process and data the next trial takes over."""

    def setup(self, config: dict, task: dict, data: dict) -> None:
        self.training = Training(config, task, data)

    def step(self) -> dict[str, float]:
        return self.training.epoch()

    def reset_config(self, new_config: dict) -> bool:
        self.training.restart(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """No checkpoints are asked for."""


def space(ranges: dict[str, list]) -> dict[str, Any]:
    """A loss's space in Tune's terms, from ["loguniform" or "uniform", low, high], ["choice", list] or ["is", v]."""
    kinds = {"loguniform": tune.loguniform, "uniform": tune.uniform, "choice": tune.choice, "is": lambda value: value}
    return {name: kinds[kind](*values) for name, (kind, *values) in ranges.items()}


def tuner(task: dict, data: dict, loss: str, folder: Path, reuse: bool) -> tune.Tuner:
    """The search of one loss. The loss's default is asked first, as losstune does it."""
    searcher = OptunaSearch(metric="accuracy", mode="max", seed=0, points_to_evaluate=[task["defaults"][loss]])
    trainable = tune.with_parameters(Reusable if reuse else train, task=task, data=data)
    return tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={**space(task["losses"][loss]), "loss": loss},
        tune_config=tune.TuneConfig(
            metric="accuracy", mode="max", num_samples=task["configurations"] * task["seeds"], reuse_actors=reuse,
            search_alg=Repeater(searcher, repeat=task["seeds"]),
            scheduler=ASHAScheduler(max_t=task["epochs"], grace_period=task["first"], reduction_factor=task["factor"]),
        ),
        run_config=tune.RunConfig(
            name=loss, storage_path=str(folder / "tune"), verbose=0,
            callbacks=[MLflowLoggerCallback(tracking_uri=store(folder), experiment_name=loss)],
        ),
    )  # fmt: skip


def store(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def fit(task: dict, data: dict, loss: str, folder: Path, reuse: bool) -> dict[str, Any]:
    """Search one loss; its wall time."""
    started = time.time()
    results = tuner(task, data, loss, folder, reuse).fit()
    seconds = time.time() - started
    if results.num_errors:
        raise results.errors[0]
    table = results.get_dataframe()
    return {"loss": loss, "seconds": seconds, "trials": len(table), "epochs": int(table["training_iteration"].sum()),
            "best": float(table["accuracy"].max())}  # fmt: skip


def main() -> None:
    """Search the task's losses, one after the other; the times of all, and when the first could begin."""
    folder, reuse = Path(sys.argv[1]), "--reuse" in sys.argv
    task = json.loads((folder / "task.json").read_text())
    with np.load(folder / "data.npz") as arrays:
        data = dict(arrays)
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    # The store's tables are made here rather than in the first search, which is what is scaled.
    mlflow.set_tracking_uri(store(folder))
    mlflow.set_experiment(next(iter(task["losses"])))
    ready = time.time()
    fits = [fit(task, data, loss, folder, reuse) for loss in task["losses"]]
    training = sum(map(float, Path(task["seconds"]).read_text().split()))
    (folder / "peer.json").write_text(json.dumps({"ready": ready, "fits": fits, "training": training}))
    ray.shutdown()


if __name__ == "__main__":
    main()
