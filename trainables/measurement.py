"""Which backend computes a network fastest here, and how many members there is memory for, by trying."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch

from losstune.spaces import InputError, space_of
from losstune.trainables.backends import BACKENDS, Backend, Choice, able, check_backend
from losstune.trainables.comparison import difference
from losstune.trainables.inputs import Inputs
from losstune.trainables.memory import available, is_out_of_memory
from losstune.trainables.network import Network
from losstune.trainables.products import PRODUCTS
from losstune.trainables.recipe import Recipe
from losstune.trainables.trainer import Stack
from losstune.trainables.trial import Trial

STEPS, REPEATS = 2, 3  # of a candidate; the quickest repeat counts
# How many members to try at once. On a CPU few fill the caches; a GPU wants to be filled.
TOGETHER = {
    "cpu": {"batched": (8, 16, 32), "grouped": (2, 4, 8), "vmap": (4, 8), "sequential": (1,)},
    "cuda": {"batched": (32, 64), "grouped": (4, 8, 16), "vmap": (8, 16), "streams": (4, 8, 16),
             "sequential": (1,)},
}
BUDGET = 8.0  # seconds: what would take longer to try, after one member alone, is not tried
ENOUGH = 1.0  # seconds of steps after which no more are timed
WORTH = 0.95  # of the time of a simpler candidate, below which another is taken
MEMORY_SHARE = 0.7  # of what is available, for one stack; evaluation and the allocator want the rest
PLACES = {"cpu": 32, "cuda": 64}  # members of a stack at most: more would be asked for ahead of results


@dataclass
class Measured:
    """What was found. milliseconds: per member and step, of each candidate "kind x together"; why: of the others."""

    choice: Choice
    width: int
    milliseconds: dict[str, float] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)


class Probe:
    """Tries backends on the first batches of a study's own data, with its own recipe."""

    def __init__(self, network: Network, recipe: Recipe, training: Inputs, device: str = "cpu", compiled: bool = False):
        self.network, self.recipe, self.training, self.device = network, recipe, training, device
        self.compiled = compiled
        self.differences: dict[str, str | None] = {}
        self.chosen = ""  # the name of the best candidate so far
        self.slow: set[str] = set()  # kinds of which no wider candidate is tried
        self.example = network.build()[0]

    def measure(self, fixed: str | None = None) -> Measured:
        """The fastest backend and a width, or those of the fixed backend. InputError where that cannot run."""
        found = Measured(Choice("sequential", 1), 1)
        kinds = [kind for kind in able(self.example) if self.device in BACKENDS[kind].devices]
        check_backend(self.example, self.network.spec, fixed or "auto", self.compiled, self.device)
        started = time.perf_counter()
        if self.compiled:
            kinds = [kind for kind in kinds if BACKENDS[kind].compile is not Backend.compile]
        if fixed is None and self.device == "cpu":
            kinds = [kind for kind in kinds if BACKENDS[kind].is_exact(self.example)]  # others are not much faster
        if fixed is None and "batched" in kinds:
            kinds = ["batched"]  # several times faster at any width; how many at once, and by whom, is the question
        for choice in self._candidates([fixed] if fixed else kinds):
            left = BUDGET - (time.perf_counter() - started)
            self._try(choice, found, left)
        if not found.milliseconds:
            reasons = "; ".join(f"{name}: {why}" for name, why in found.why.items())
            raise InputError(f"network: {self.network.spec} cannot be trained here ({reasons}); "
                             "allowed: a smaller network or batch")  # fmt: skip
        found.width = self._width(found.choice)
        return found

    def _candidates(self, kinds: list[str]) -> Iterator[Choice]:
        """Simple ones first: what comes later has to be worth it."""
        for kind in reversed(list(BACKENDS)):
            for together in TOGETHER[self.device][kind] if kind in kinds else ():
                for products in PRODUCTS if kind == "batched" and self._can_be_numpys() else ("torch",):
                    yield Choice(kind, together, self.compiled, products)

    def _can_be_numpys(self) -> bool:
        return self.device == "cpu" and self.recipe.precision == "float32"

    def _try(self, choice: Choice, found: Measured, left: float) -> None:
        name = f"{choice.kind} x {choice.together}" + (f", {choice.products}" if choice.kind == "batched" else "")
        best = found.milliseconds.get(self.chosen, 0.0)
        if choice.kind in self.slow:
            found.why[name] = "fewer at once gained nothing"
            return
        if found.milliseconds and best / 1e3 * choice.together * (1 + REPEATS * STEPS) > left:
            found.why[name] = "it would take too long to try"
            return
        try:
            wrong = self._check(choice.kind)
            if wrong:
                found.why[name] = wrong
                return
            seconds = self._seconds(choice)
        except Exception as error:  # whatever a network, or a kernel, does not do
            if isinstance(error, InputError):
                raise
            found.why[name] = "memory ran out" if is_out_of_memory(error) else " ".join(str(error).split())[:200]
            return
        first = not found.milliseconds
        found.milliseconds[name] = seconds * 1e3
        if first or seconds * 1e3 < best * WORTH:
            found.choice, self.chosen = choice, name
        elif self.device == "cpu" and choice.kind != "batched":
            self.slow.add(choice.kind)  # more members at once fill the caches; on a GPU they may be what fills it

    def _check(self, kind: str) -> str | None:
        """What a backend computes otherwise than the network says; once per backend."""
        if kind not in self.differences:
            device = torch.device(self.device)
            self.differences[kind] = None if kind == "sequential" else difference(kind, self.network, device)
        return self.differences[kind]

    def _seconds(self, choice: Choice) -> float:
        """Seconds per member and step."""
        stack, times = self._stack(choice, choice.together), []
        stack.rehearse(1)
        while len(times) < REPEATS and sum(times) < ENOUGH:
            before = self._now()
            stack.rehearse(STEPS)
            times.append(self._now() - before)
        return min(times) / min(STEPS, stack.steps) / choice.together

    def _now(self) -> float:
        if self.device == "cuda":
            torch.cuda.synchronize()
        # With one thread its own time says more than the clock's where others run beside it.
        return time.process_time() if self.device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()

    def _stack(self, choice: Choice, members: int) -> Stack:
        stack = Stack("probe", self.network, self.recipe, self.training, self.training, None, self.device, members,
                      choice)  # fmt: skip
        shared = space_of("softmax").shared()
        rates = shared["learning_rate"].default, shared["weight_decay"].default
        for seed in range(members):
            stack.join(Trial(f"probe-{seed}", "softmax", {}, *rates, "probe", (seed,), self.recipe.epochs))
        return stack

    def _width(self, choice: Choice) -> int:
        """Places for members: what memory allows by the difference of one and two, within what is of use."""
        # Member after member there is nothing to gain by company but to have work while others wait for decisions.
        most = PLACES[self.device] if choice.together > 1 else 4
        if self.device == "cuda":
            one, two = (self._peak(replace(choice, together=k if choice.together > 1 else 1), k) for k in (1, 2))
        else:
            one, two = (self._stack(choice, k).bytes_at_rest() for k in (1, 2))
        each = max(1, two - one)
        return int(max(1, min(most, (available(self.device) * MEMORY_SHARE - one) // each + 1)))

    def _peak(self, choice: Choice, members: int) -> int:
        """Bytes of device memory that a step takes at most."""
        stack = self._stack(choice, members)
        torch.cuda.reset_peak_memory_stats()
        stack.rehearse(1)
        return torch.cuda.max_memory_allocated()
