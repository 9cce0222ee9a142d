"""Forward plus backward of every criterion on logits alone, against PyTorch's fused cross-entropy.

    python benchmarks/criteria.py [--compile]

Batch 1024, 1000 classes, float32, one thread. Printed per loss: the ratio of its time to that of cross-entropy, both
the fastest of runs in turns; with --compile that of both under torch.compile; and the most memory that it holds
beside the logits, in matrices of their size. Allowed: 1.5 times the time, or 3 times where the formula needs a second
softmax or a log-sum-exp over the other classes; 4 matrices.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

os.environ["KINETO_LOG_LEVEL"] = "99"  # the profiler's own news

import torch  # noqa: E402
from torch import Tensor  # noqa: E402
from torch.nn import functional  # noqa: E402

from losstune import make_loss  # noqa: E402
from losstune.trainables.losses import LOSSES  # noqa: E402

BATCH, CLASSES, ROUNDS = 1024, 1000, 20
SECOND_SOFTMAX = {"large_margin", "cot, second pass"}
Criterion = Callable[[Tensor, Tensor], Tensor]


def criteria() -> dict[str, Criterion]:
    """Every loss that takes logits alone, at its defaults, and the second pass of those that have one."""
    found: dict[str, Criterion] = {}
    for name, loss in LOSSES.items():
        if loss.needs_features:
            continue
        made = make_loss(name, CLASSES)
        hp = made.hyperparameters
        # The checks of make_loss read the targets once more; the trainer calls the loss without them.
        found[name] = lambda z, y, loss=loss, hp=hp: loss.of_logits(z, y, 0.5, hp)
        if loss.passes > 1:
            found[f"{name}, second pass"] = lambda z, y, loss=loss, hp=hp: loss.of_logits(z, y, 0.5, hp, second=True)
    return found


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits, targets, reduction="none")


def seconds(criterion: Criterion, logits: Tensor, targets: Tensor) -> float:
    """One forward and backward pass of the mean over the batch."""
    z = logits.detach().requires_grad_()
    started = time.perf_counter()
    # The gradient as the final layer would get it; into a leaf's .grad it would be copied once more.
    torch.autograd.grad(criterion(z, targets).mean(), z)
    return time.perf_counter() - started


def ratio(criterion: Criterion, reference: Criterion, logits: Tensor, targets: Tensor) -> float:
    """The fastest run of one over the fastest of the other, ten of each in turns."""
    fastest = {}
    for one in (criterion, reference) * ROUNDS:
        times = [seconds(one, logits, targets) for _ in range(10)]
        fastest[one] = min(fastest.get(one, times[0]), *times)
    return fastest[criterion] / fastest[reference]


def extra_memory(criterion: Criterion, logits: Tensor, targets: Tensor) -> float:
    """The most that is allocated at once beside the logits, in matrices of their size; their gradient counts."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        seconds(criterion, logits, targets)
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most / (logits.numel() * logits.element_size())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compile", action="store_true", help="the ratio under torch.compile too (minutes)")
    compile_too = parser.parse_args().compile
    torch.set_num_threads(1)
    torch.manual_seed(0)
    logits, targets = 3 * torch.randn(BATCH, CLASSES), torch.randint(CLASSES, (BATCH,))
    print(f"torch {torch.__version__}, {BATCH} x {CLASSES}, float32, one thread")
    print(f"cross-entropy holds {extra_memory(cross_entropy, logits, targets):.1f} matrices")
    print(f"{'loss':28}{'time':>8}{'allowed':>9}{'memory':>8}" + ("  compiled" if compile_too else ""))
    for name, criterion in criteria().items():
        allowed = 3.0 if name in SECOND_SOFTMAX else 1.5
        line = f"{name:28}{ratio(criterion, cross_entropy, logits, targets):8.2f}{allowed:9.1f}"
        line += f"{extra_memory(criterion, logits, targets):8.1f}"
        if compile_too:
            torch.compiler.reset()
            line += f"{ratio(torch.compile(criterion), torch.compile(cross_entropy), logits, targets):10.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
