"""The trainer on one GPU, torch alone: no Ray, no Optuna, no MLflow.

    PYTHONPATH=src python benchmarks/gpu.py [small_cnn | all_cnn_c | wrn_16_8 | record | accuracy ARRAYS.npz]

Without a word all but accuracy. Every row is a ratio of two sides measured in the same run, and is written to
benchmarks/results/gpu.json too. accuracy trains All-CNN-C on CIFAR-10 with Kornblith's softmax recipe; ARRAYS.npz holds
x_train, y_train, x_test, y_test as `data: npy:` or `npz:` take them.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from setting import images, make_stack, now, samples_per_second
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from losstune.spaces import InputError
from losstune.trainables.backends import Choice, able
from losstune.trainables.datasets import Split
from losstune.trainables.inputs import Inputs, Normalization
from losstune.trainables.measurement import TOGETHER
from losstune.trainables.metrics import METRICS
from losstune.trainables.network import Network
from losstune.trainables.recipe import Recipe
from losstune.trainables.scoring import Scorer
from losstune.trainables.trainer import Stack
from losstune.trainables.trial import Trial

SHAPE = (3, 32, 32)
DEVICE = "cuda"


def together(network: str, members: int, goal: float) -> dict:
    """So many members at batch 128 in bfloat16: each backend that can, against member after member."""
    split, found = images(128 * 40, SHAPE), {}
    settings = {"device": DEVICE, "augmentation": "crop_flip", "batch_size": 128, "precision": "bfloat16"}
    kinds = [kind for kind in able(Network(network, SHAPE, 10).build()[0]) if kind != "sequential"]
    choices = [Choice("sequential", 1), *(Choice(kind, members) for kind in kinds), Choice("streams", members, True)]
    for choice in choices:
        name = f"{choice.kind}{', compiled' if choice.compiled else ''}"
        try:
            stack = make_stack(network, split, members, choice, **settings)
            found[name] = samples_per_second(stack, 30)
            captured = {getattr(chunk.taken_by, "why", "not captured") or "captured" for chunk in stack.chunks}
            print(f"{network:10} {members:2} members, {name:18} {found[name]:12,.0f} samples/s  "
                  f"{found[name] / found['sequential']:5.2f} x   step: {', '.join(captured)}")  # fmt: skip
        except (RuntimeError, InputError) as error:
            print(f"{network:10} {members:2} members, {name:18} {' '.join(str(error).split())[:120]}")
    best = max(found.values())
    peak = matrix_peak()
    share = best * flops_of_a_sample(network) / peak
    print(f"{network:10} best {best / found['sequential']:.2f} x (goal {goal:g} x); {100 * share:.0f}% of the bfloat16 "
          f"matrix peak of {peak / 1e12:.0f} TFLOP/s")  # fmt: skip
    return {"samples_per_second": found, "ratio": best / found["sequential"], "share_of_peak": share,
            "matrix_peak": peak}  # fmt: skip


def flops_of_a_sample(network: str) -> float:
    """Floating-point operations of a training step per sample: three times those of the forward pass."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        module = nn.Sequential(*Network(network, SHAPE, 10).build()[:1])
        module(torch.empty(2, *SHAPE))
    return 3 * counter.get_total_flops() / 2


def matrix_peak() -> float:
    """Operations per second of a large product of bfloat16 matrices, here and now."""
    a, b = (torch.randn(8192, 8192, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        started = now(a.device)
        for _ in range(10):
            a @ b
        best = min(best, (now(a.device) - started) / 10)
    return 2 * 8192**3 / best


def against_a_hand_written_loop() -> dict:
    """One member of resnet20 at batch 1000, against a loop in the manner of the CIFAR speed records."""
    split, steps = images(50_000, SHAPE), 50
    stack = make_stack("resnet20", split, 1, Choice("sequential", 1), DEVICE, "crop_flip", batch_size=1000,
                       precision="bfloat16")  # fmt: skip
    ours = 1000 * steps / samples_per_second(stack, steps, 3)
    loop = HandWritten(split)
    loop.epoch()
    theirs = min(loop.timed() for _ in range(3))
    print(f"resnet20 at batch 1000, an epoch of 50,000: ours {ours:.3f} s, hand-written {theirs:.3f} s, "
          f"{ours / theirs:.2f} x its time (goal at most 1.15)")  # fmt: skip
    return {"ours": ours, "hand_written": theirs, "ratio": ours / theirs}


class HandWritten:
    """The whole set on the GPU, augmented once per epoch in large operations, channels_last, bfloat16, no loader."""

    def __init__(self, split: Split):
        torch.backends.cudnn.benchmark = True
        backbone, features = Network("resnet20", SHAPE, 10).build()
        self.net = nn.Sequential(backbone, nn.Linear(features, 10)).to(DEVICE, memory_format=torch.channels_last)
        x = torch.from_numpy(split.x).to(DEVICE).to(torch.bfloat16).sub_(127).div_(64)
        self.x = nn.functional.pad(x, (4,) * 4).contiguous(memory_format=torch.channels_last)
        self.y = torch.from_numpy(split.y).to(DEVICE)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4,
                                         fused=True)  # fmt: skip

    def augmented(self) -> torch.Tensor:
        """Every image cropped and flipped, by masks over the 81 offsets."""
        count = len(self.x)
        out = torch.empty((count, *SHAPE), device=DEVICE, dtype=self.x.dtype, memory_format=torch.channels_last)
        offsets = torch.randint(0, 9, (count, 2), device=DEVICE)
        for row in range(9):
            for column in range(9):
                chosen = (offsets[:, 0] == row) & (offsets[:, 1] == column)
                out[chosen] = self.x[chosen, :, row : row + 32, column : column + 32]
        flip = torch.rand(count, 1, 1, 1, device=DEVICE) < 0.5
        return torch.where(flip, out.flip(-1), out)

    def epoch(self) -> None:
        x, order = self.augmented(), torch.randperm(len(self.x), device=DEVICE)
        for batch in order.split(1000):
            with torch.autocast(DEVICE, torch.bfloat16):
                loss = nn.functional.cross_entropy(self.net(x[batch]), self.y[batch])
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()

    def timed(self) -> float:
        started = now(torch.device(DEVICE))
        self.epoch()
        return now(torch.device(DEVICE)) - started


def accuracy(path: str, epochs: int = 100, seeds: int = 5) -> dict:
    """All-CNN-C with Kornblith's softmax recipe on full CIFAR-10 (A.1, Table A.2): the paper has 93.49% over 25 seeds.

    SGD with Nesterov momentum 0.9, batches of 128, cosine decay, the default learning rate and weight decay of the
    losses' tables, crop and flip; the number of epochs is not in the paper.
    """
    arrays = np.load(path)
    train, test = (
        Split(np.ascontiguousarray(_channels_first(arrays[f"x_{part}"])), arrays[f"y_{part}"].astype(np.int64))
        for part in ("train", "test")
    )
    from losstune.spaces import space_of
    from losstune.trainables.augmentation import check, resolve

    normalization, pipeline = Normalization(train.x), resolve("crop_flip", SHAPE)
    inputs = [Inputs(split, normalization, DEVICE, pipeline) for split in (train, test)]
    recipe = Recipe(epochs=epochs, batch_size=128, precision="bfloat16", augmentation=check("crop_flip"))
    kinds = [kind for kind in ("grouped", "sequential") if kind in able(Network("all_cnn_c", SHAPE, 10).build()[0])]
    choice = Choice(kinds[0], min(seeds, max(TOGETHER[DEVICE][kinds[0]])))
    score = Scorer(METRICS["accuracy"], 10).followed
    stack = Stack("accuracy", Network("all_cnn_c", SHAPE, 10), recipe, *inputs, score, DEVICE, seeds, choice)
    shared = space_of("softmax").shared()
    rates = shared["learning_rate"].default, shared["weight_decay"].default
    stack.join(Trial("softmax", "softmax", {}, *rates, "accuracy", tuple(range(seeds)), epochs))
    started = time.perf_counter()
    for _ in range(epochs):
        scores = stack.train_epoch()["softmax"].scores["accuracy"]
    mean, error = float(np.mean(scores)), float(np.std(scores, ddof=1) / np.sqrt(seeds))
    print(f"all_cnn_c, CIFAR-10, softmax, {epochs} epochs, learning rate {rates[0]:g}, decay {rates[1]:g}, "
          f"{seeds} seeds: {100 * mean:.2f} +- {100 * error:.2f}% (paper 93.49), "
          f"{time.perf_counter() - started:.0f} s")  # fmt: skip
    return {"accuracies": scores, "epochs": epochs, "learning_rate": rates[0], "weight_decay": rates[1]}


def _channels_first(x: np.ndarray) -> np.ndarray:
    return x.transpose(0, 3, 1, 2) if x.shape[-1] == 3 else x


def main() -> None:
    if not torch.cuda.is_available():
        raise SystemExit("there is no GPU here that torch can use")
    torch.backends.cudnn.benchmark = True
    rows = {
        "small_cnn": lambda: together("small_cnn", 16, 5), "all_cnn_c": lambda: together("all_cnn_c", 8, 2),
        "wrn_16_8": lambda: together("wrn_16_8", 8, 2), "record": against_a_hand_written_loop,
    }  # fmt: skip
    asked = sys.argv[1:] or list(rows)
    found = {"device": torch.cuda.get_device_name(), "torch": torch.__version__}
    if asked[0] == "accuracy":
        found["accuracy"] = accuracy(asked[1], *map(int, asked[2:]))
    else:
        found |= {name: rows[name]() for name in asked}
    path = Path(__file__).parent / "results" / "gpu.json"
    path.parent.mkdir(exist_ok=True)
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
