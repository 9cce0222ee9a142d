"""The trainer alone, on one CPU core: members together against one after another, and whether losses share a stack.

    python benchmarks/trainer.py

Prints training samples per second as ratios within this run. Member after member is the same trainer with the backend
that takes the network as its author wrote it.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import torch
from setting import images, make_stack, now, samples_per_second

from losstune.spaces import check_hyperparameters, space_of
from losstune.trainables.backends import Choice
from losstune.trainables.datasets import load_dataset
from losstune.trainables.memory import keep_freed_memory
from losstune.trainables.trial import Trial

TEN = ("softmax", "label_smoothing", "dropout", "final_layer_l2", "logit_penalty", "logit_norm", "cosine_softmax",
       "sigmoid", "squared_error", "ce_el")  # fmt: skip


def fully_connected() -> None:
    """The digits network at batch 64, by the number of members."""
    digits = load_dataset("digits", None, Path()).train
    make = partial(make_stack, "mlp", digits, device="cpu")
    alone = samples_per_second(make(members=1, choice=Choice("sequential", 1)), 19)
    print(f"mlp, member after member          {alone:12,.0f} samples/s")
    for members in (1, 8, 32):
        for together in {min(members, 16), members}:
            rate = samples_per_second(make(members=members, choice=Choice("batched", together)), 19)
            print(
                f"mlp, {members:2} members, {together:2} in a chunk    {rate:12,.0f} samples/s  {rate / alone:5.1f} x"
            )
    floor = products_alone(32)
    print(
        f"mlp, 32 members, its matrix products alone {floor:9.0f} samples/s: the rest of a step is what is left to gain"
    )


def products_alone(members: int) -> float:
    """Samples per second of nothing but the matrix products that a step of the digits network cannot do without."""
    shapes = [(64, 128), (128, 64), (64, 10)]
    x = [torch.randn(members, 64, a) for a, _ in shapes]
    y = [torch.randn(members, 64, b) for _, b in shapes]
    w = [torch.randn(members, b, a) for a, b in shapes]

    def step() -> None:
        for index in range(3):
            torch.bmm(x[index], w[index].transpose(1, 2))
            torch.bmm(y[index].transpose(1, 2), x[index])
            if index:
                torch.bmm(y[index], w[index])

    best = float("inf")
    for _ in range(30):
        started = time.process_time()
        step()
        best = min(best, time.process_time() - started)
    return members * 64 / best


def losses_together() -> None:
    """Thirty members of ten losses in one stack, against ten stacks of one loss that hold as many."""
    digits = load_dataset("digits", None, Path()).train
    mixed = make_stack("mlp", digits, 0, Choice("batched", 16), "cpu")
    fill(mixed, TEN, 30)
    own = []
    for loss in TEN:
        stack = make_stack("mlp", digits, 0, Choice("batched", 16), "cpu")
        fill(stack, (loss,), 30)
        own.append(stack)
    few = []
    for loss in TEN:
        stack = make_stack("mlp", digits, 0, Choice("batched", 16), "cpu")
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
    now(torch.device("cpu"))
    fully_connected()
    losses_together()
    convolutional()


if __name__ == "__main__":
    main()
