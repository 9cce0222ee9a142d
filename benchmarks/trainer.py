# ruff: noqa: E402
"""The trainer alone, on one CPU core: members together against one after another, and whether losses share a stack.

    python benchmarks/trainer.py

Prints training samples per second as ratios within this run. Member after member is the same trainer with the backend
that takes the network as its author wrote it.
"""

from losstune.trainables.processor import prefer_wide_kernels

prefer_wide_kernels()  # before NumPy is loaded

import time
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from setting import images, make_stack, now, samples_per_second
from torch import nn

from losstune.spaces import check_hyperparameters, space_of
from losstune.trainables.backends import Choice
from losstune.trainables.datasets import load_dataset
from losstune.trainables.memory import keep_freed_memory
from losstune.trainables.products import PRODUCTS, Products, share_threads
from losstune.trainables.trial import Trial

TEN = ("softmax", "label_smoothing", "dropout", "final_layer_l2", "logit_penalty", "logit_norm", "cosine_softmax",
       "sigmoid", "squared_error", "ce_el")  # fmt: skip
# What the probe finds is used in studies; this is what it found where this was written.
FASTEST = Choice("batched", 32, products="numpy")


# By the units of their layers: the network of the default study, and one that is nothing but overhead.
NETWORKS = {"mlp": (64, 128, 64, 10), "narrow": (64, 32, 10)}
NARROW = """
from torch import nn

def build(input_shape, num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, num_classes))
"""


def fully_connected(name: str) -> None:
    """A network on the digits at batch 64, by the number of members."""
    digits = load_dataset("digits", None, Path()).train
    spec, source = ("mlp", None) if name == "mlp" else ("narrow.py:build", NARROW)
    make = partial(make_stack, spec, digits, device="cpu", source=source)
    alone = samples_per_second(make(members=1, choice=Choice("sequential", 1)), 19)
    plain, units = plain_loop(digits, NETWORKS[name]), "-".join(map(str, NETWORKS[name]))
    print(f"{units:12} member after member          {alone:12,.0f} samples/s")
    print(f"{units:12} a plain PyTorch loop         {plain:12,.0f} samples/s  {plain / alone:5.1f} x")
    for products in PRODUCTS:
        for members in (1, 8, 32):
            choice = Choice("batched", members, products=products)
            rate = samples_per_second(make(members=members, choice=choice), 19)
            what = f"{members} members by {products}"
            print(f"{units:12} {what:28} {rate:12,.0f} samples/s  {rate / alone:5.1f} x")
        floor = products_alone(32, NETWORKS[name], PRODUCTS[products])
        print(f"{units:12} 32 members, products alone   {floor:12,.0f} samples/s  {floor / alone:5.1f} x   (the floor)")


def plain_loop(digits, units: tuple[int, ...], epochs: int = 4) -> float:
    """Samples per second in a loop as anyone writes it: autograd, torch.optim.SGD, no loader."""
    layers = [layer for a, b in pairwise(units) for layer in (nn.Linear(a, b), nn.ReLU())]
    net = nn.Sequential(nn.Flatten(), *layers[:-1])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
    x, y = torch.from_numpy(digits.x).float() / 16, torch.from_numpy(digits.y)
    best = float("inf")
    for _ in range(epochs):
        started = time.process_time()
        for batch in torch.randperm(len(y))[: 19 * 64].view(19, 64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
        best = min(best, time.process_time() - started)
    return 19 * 64 / best


def products_alone(members: int, units: tuple[int, ...], products: Products) -> float:
    """Samples per second of nothing but the matrix products that a step cannot do without."""
    shapes = list(pairwise(units))
    x = [torch.randn(members, 64, a) for a, _ in shapes]
    y = [torch.randn(members, 64, b) for _, b in shapes]
    w = [torch.randn(members, a, b).transpose(1, 2) for a, b in shapes]
    bias, out = [torch.zeros(members, b) for _, b in shapes], [torch.empty_like(weight) for weight in w]

    def step() -> None:
        for index in range(len(shapes)):
            products.linear(x[index], w[index], bias[index])
            products.by_weight(y[index], x[index], out[index])
            if index:
                products.by_input(y[index], w[index])

    best = float("inf")
    for _ in range(30):
        started = time.process_time()
        step()
        best = min(best, time.process_time() - started)
    return members * 64 / best


def losses_together() -> None:
    """Thirty members of ten losses in one stack, against ten stacks of one loss that hold as many."""
    digits = load_dataset("digits", None, Path()).train
    mixed = make_stack("mlp", digits, 0, FASTEST, "cpu")
    fill(mixed, TEN, 30)
    own = []
    for loss in TEN:
        stack = make_stack("mlp", digits, 0, FASTEST, "cpu")
        fill(stack, (loss,), 30)
        own.append(stack)
    few = []
    for loss in TEN:
        stack = make_stack("mlp", digits, 0, FASTEST, "cpu")
        fill(stack, (loss,), 3)
        few.append(stack)
    rates = [samples_per_second(stack, 19, 3) for stack in (mixed, *own, *few)]
    alone, short = (10 / sum(1 / r for r in part) for part in (rates[1:11], rates[11:]))
    print(f"mlp, 30 members of ten losses in one stack           {rates[0]:10,.0f} samples/s")
    print(f"mlp, 30 members of one loss at a time                {alone:10,.0f} samples/s  {alone / rates[0]:4.2f} x")
    print(f"mlp, one trial of three seeds of one loss at a time  {short:10,.0f} samples/s  {short / rates[0]:4.2f} x")


def fill(stack, losses: tuple[str, ...], members: int) -> None:
    for number in range(members // 3):
        loss = losses[number % len(losses)]
        shared = space_of(loss).shared()
        rates = shared["learning_rate"].default / 2, shared["weight_decay"].default
        hyperparameters = check_hyperparameters(loss, {}, num_classes=10)
        stack.join(Trial(f"{loss}-{number}", loss, hyperparameters, *rates, "benchmark", (0, 1, 2), 100))


def convolutional() -> None:
    """A small network on 28 x 28 images at batch 128, in float32 and bfloat16."""
    split = images(1280, (1, 28, 28))
    plain = None
    for precision in ("float32", "bfloat16"):
        for choice in (Choice("sequential", 1), Choice("grouped", 4), Choice("vmap", 4)):
            members = 4
            stack = make_stack("small_cnn", split, members, choice, "cpu", batch_size=128, precision=precision)
            rate = samples_per_second(stack, 4, 3)
            plain = plain or rate
            print(f"small_cnn, {precision:8} {choice.kind:10} x {choice.together}  {rate:10,.0f} samples/s  "
                  f"{rate / plain:5.2f} x")  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    keep_freed_memory()
    share_threads()
    now(torch.device("cpu"))
    for name in NETWORKS:
        fully_connected(name)
    losses_together()
    convolutional()


if __name__ == "__main__":
    main()
