"""The only training loop: a stack of trials in, metrics per trial and epoch out. Trials join and leave at epochs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from losstune.spaces import InputError
from losstune.trainables.architectures import ARCHITECTURES
from losstune.trainables.backends import BACKENDS, Backend, Choice, check_backend, default_choice
from losstune.trainables.backends.backend import is_random
from losstune.trainables.chunk import Chunk, Member, OutOfMemory, partition
from losstune.trainables.draws import Draws
from losstune.trainables.epoch import ChunkEpoch
from losstune.trainables.evaluation import Score, evaluated, scored
from losstune.trainables.graphs import CapturedStep
from losstune.trainables.heads import Targets
from losstune.trainables.inputs import Inputs
from losstune.trainables.losses.combine import loss_of
from losstune.trainables.network import Network
from losstune.trainables.products import PRODUCTS, share_threads
from losstune.trainables.recipe import Recipe
from losstune.trainables.states import States
from losstune.trainables.trial import Trial


@dataclass(frozen=True)
class EpochResult:
    """One epoch of one trial. Lists hold a value per member; seconds: its share of the stack's time."""

    epoch: int
    train_loss: list[float]
    scores: dict[str, list[float]]
    finite: list[bool]
    seconds: float


class Stack:
    """Members of one network and data set, of one or many trials, trained together.

    study: the name from which all seeds derive. score: (logits (n, N, K), loss, targets (N,)) -> metrics per member.
    width: how many members there is room for; None: what suits the backend. backend: how networks are computed, and how
    many in one chunk; None: what needs no measurement.
    """

    def __init__(
        self, study: str, network: Network, recipe: Recipe, training: Inputs, validation: Inputs, score: Score,
        device: str = "cpu", width: int | None = None, backend: Choice | None = None,
    ):  # fmt: skip
        self.study, self.network, self.recipe = study, network, recipe
        self.training, self.validation, self.score = training, validation, score
        self.device = torch.device(device)
        self.dtype = torch.bfloat16 if recipe.precision == "bfloat16" else torch.float32
        self.example, self.in_features = network.build()
        self.choice = backend or default_choice(self.example)
        self.together = self.choice.together
        self.kind = BACKENDS[self.choice.kind]
        self.order = self.kind.order_for(self.example, network.input_shape)
        self.products = PRODUCTS[self.choice.products]
        if self.choice.products == "numpy":
            share_threads()
        check_backend(self.example, network.spec, self.choice.kind, self.choice.compiled)
        self.draws_itself = network.spec not in ARCHITECTURES or is_random(self.example)
        self.states = States(study, network, recipe, self.example, self.in_features, self.order)
        self.layout_of = self.states.layout_of
        self.width = width or (32 if self.together > 1 else 1)
        self.members: dict[str, list[Member]] = {}
        self.chunks: list[Chunk] = []
        self.idle: dict[int, list[Backend]] = {}  # backends that nothing is bound to, by their number of members
        self.bound = True
        self.moved: Callable[[], None] = lambda: None  # called at every step, and at what takes as long
        self.is_to_end: Callable[[], bool] = lambda: False  # asked after every step: whether the epoch is interrupted
        self.notes: list[str] = []  # what happened that its user should know
        self.noted: set[str] = set()
        self.draws = Draws(study, recipe, len(training))
        self.steps = self.draws.steps
        if self.steps < 1:
            raise InputError(f"recipe.batch_size: {recipe.batch_size} is more than the {len(training)} training "
                             f"examples; allowed: 1 to {len(training)}")  # fmt: skip

    def join(self, trial: Trial, state: dict | None = None) -> None:
        """Take a trial in between two epochs: from its start, or from the state that leave or state gave.

        One that was interrupted in the midst of an epoch trains what is left of it while the others train theirs.
        """
        members = self.states.start(trial) if state is None else self.states.restore(trial, state)
        self.members[trial.id] = [member.to(self.device) for member in members]
        self.bound = False

    def leave(self, trial_id: str) -> dict:
        """Let a trial go; its state, unstacked, from which any stack can take it up exactly where it was."""
        state = self.state(trial_id)
        del self.members[trial_id]
        self.bound = False
        return state

    def drop(self, trial_id: str) -> None:
        """Let a trial go whose state nobody wants."""
        del self.members[trial_id]
        self.bound = False

    def state(self, trial_id: str) -> dict:
        """A trial's state as plain data: {"epoch", "members": [{"parameters", "optimizer", "buffers"}]}.

        optimizer: what it keeps between steps, a list per pass of a step of a list per slot, by parameter. With a
        moving average there are "average" and "average_buffers" too, and where an epoch was interrupted "step", how
        many steps of it are done, and "total", the sum of the mean losses of these.
        """
        members = self.members[trial_id]
        for chunk in self.chunks:
            chunk.refresh()
        return self.states.plain(members)

    @property
    def free(self) -> int:
        """Places for members that are free."""
        return self.width - sum(map(len, self.members.values()))

    def epoch_of(self, trial_id: str) -> int:
        return self.members[trial_id][0].epoch

    def step_of(self, trial_id: str) -> int:
        """The steps that are done of an epoch that was interrupted."""
        return self.members[trial_id][0].step

    def train_epoch(self) -> dict[str, EpochResult] | None:
        """Train every member to the end of its epoch and score it on validation; results by trial id.

        None when it is to end in the midst of the epoch: states then hold how far that is.
        """
        started_at = time.perf_counter()
        self._bind()
        losses = self._train()
        if losses is None:
            return None
        for member in self._all_members():
            self.bound &= not member.step
            member.epoch, member.step, member.total = member.epoch + 1, 0, 0.0
        scores = self._score()
        finite = {id(m): ok for chunk in self.chunks for m, ok in
                  zip(chunk.members, chunk.rows.parameter.sum(1).isfinite().tolist(), strict=True)}  # fmt: skip
        seconds = time.perf_counter() - started_at
        passes = {trial_id: len(m) * loss_of(m[0].trial.loss).passes for trial_id, m in self.members.items()}
        share = {trial_id: seconds * n / sum(passes.values()) for trial_id, n in passes.items()}
        return {
            trial_id: EpochResult(
                members[0].epoch, [losses[id(m)] for m in members], scores[trial_id],
                [finite[id(m)] for m in members], share[trial_id],
            )
            for trial_id, members in self.members.items()
        }  # fmt: skip

    def logits(self, trial_id: str, inputs: Inputs) -> np.ndarray:
        """Transformed logits (members, N, K) of a trial on any inputs, of averaged weights where there are any."""
        # Of copies in chunks of their own, so that what is measured does not depend on company.
        copies = [m.copy() for m in self.members[trial_id]]
        found: dict[int, np.ndarray] = {}
        for part in partition(copies, self.together):
            chunk = self._chunk(part)
            found |= evaluated([chunk], inputs, self.recipe.average is not None, self.moved)
            self._release(chunk)
        return np.stack([found[id(m)] for m in copies])

    def _all_members(self) -> list[Member]:
        return [m for members in self.members.values() for m in members]

    def rehearse(self, steps: int) -> None:
        """Train so many steps of the epoch and count none of them: to be timed."""
        self._bind()
        self._train(steps)

    def bytes_at_rest(self) -> int:
        """What the members take between steps: parameters, gradients, decay, and what the optimizer keeps."""
        self._bind()
        rows = [chunk.rows for chunk in self.chunks]
        kept = [tensor for r in rows for tensor in (r.parameter, r.gradient, r.decay, r.state, r.average)]
        return sum(tensor.nbytes for tensor in kept if tensor is not None)

    def _train(self, steps: int | None = None) -> dict[int, float] | None:
        """What is left of an epoch of every chunk, or its first steps; each member's mean training loss, by identity.

        None when it is to end before.
        """
        streams = list(dict.fromkeys(m.stream for m in self._all_members()))
        work = [ChunkEpoch(chunk, streams, self.draws, self.device) for chunk in self.chunks]
        begin, end = min(part.begin for part in work), min(steps or self.steps, self.steps)
        batches = self.training.batches(self.draws.order(streams)[:, begin:end],
                                        lambda step: self.draws.augmentation(streams, begin + step))  # fmt: skip
        with closing(batches):
            for step, (x, targets) in enumerate(batches, begin):
                self.moved()
                x, mixed = self.draws.mixed(x, targets, streams, step)
                work = self._step(work, step, x, mixed)
                if step + 1 < end and self.is_to_end():
                    break
        self.chunks = [part.chunk for part in work]
        if step + 1 < end:
            for part in work:
                part.interrupted_at(step + 1)
            return None
        return {id(m): loss / end for part in work
                for m, loss in zip(part.chunk.members, part.total.tolist(), strict=True)}  # fmt: skip

    def _step(self, work: list[ChunkEpoch], step: int, x: Tensor, mixed: Targets) -> list[ChunkEpoch]:
        """A step of every chunk that has come so far; the chunks after it, which are more where memory ran out."""
        index = 0
        while index < len(work):
            try:
                if step >= work[index].begin:
                    work[index].step(step, x, mixed, self.draws_itself)
                index += 1
            except OutOfMemory as error:
                work[index : index + 1] = self._halved(work[index], error)
        return work

    def _halved(self, work: ChunkEpoch, error: OutOfMemory) -> list[ChunkEpoch]:
        """The two halves of a chunk for which memory did not suffice; from now on no chunk is larger."""
        members = work.chunk.members
        if len(members) == 1:
            raise error.__cause__
        half = -(-len(members) // 2)
        self.together = min(self.together, half)
        self.note(f"memory ran out with {len(members)} members at once; now at most {self.together}")
        self._release(work.chunk, reuse=False)
        return [work.taken_over(self._chunk(part), start, error.first)
                for part, start in ((members[:half], 0), (members[half:], half))]  # fmt: skip

    def _score(self) -> dict[str, dict[str, list[float]]]:
        averages = self.recipe.average is not None
        return scored(self.members, self.chunks, self.validation, self.score, averages, self.moved)

    def _bind(self) -> None:
        """Make chunks of the members as they are now; those whose members are the same stay as they are."""
        if self.bound:
            return
        parts = partition(self._all_members(), self.together)
        wanted = {frozenset(map(id, part)): part for part in parts}
        kept = {key: chunk for chunk in self.chunks if (key := frozenset(map(id, chunk.members))) in wanted}
        for chunk in self.chunks:
            if chunk not in kept.values():
                self._release(chunk)
        self.chunks = [kept.get(key) or self._chunk(part) for key, part in wanted.items()]
        self.bound = True

    def _chunk(self, members: list[Member]) -> Chunk:
        idle = self.idle.get(len(members))
        backend = idle.pop() if idle else self._backend(len(members))
        chunk = Chunk(members, backend, self.layout_of, self.recipe, self.in_features, self.device, self.products)
        if self.device.type == "cuda" and not self.draws_itself:
            chunk.taken_by = CapturedStep(self.note)
        return chunk

    def note(self, text: str) -> None:
        """Say something to the user, once."""
        if text not in self.noted:
            self.noted.add(text)
            self.notes.append(text)

    def _backend(self, members: int) -> Backend:
        backend = self.kind(self.example, self._build, self.states.layout, members, self.dtype)
        backend.products, backend.order = self.products, self.order
        if self.choice.compiled:
            backend.compile()
        return backend

    def _build(self) -> nn.Module:
        return self.network.build()[0].to(self.device)

    def _release(self, chunk: Chunk, reuse: bool = True) -> None:
        """Let a chunk's backend be used for others; its members keep what they need."""
        chunk.detach()
        if reuse:
            self.idle.setdefault(len(chunk.members), []).append(chunk.backend)
