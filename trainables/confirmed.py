"""What is measured of a confirmed member at its end, and the files that are kept of it."""

from __future__ import annotations

from typing import Any

from losstune.trainables import checkpoint, predictions
from losstune.trainables.failing import unscored
from losstune.trainables.inputs import Inputs, Normalization
from losstune.trainables.job import Job
from losstune.trainables.losses.combine import loss_of
from losstune.trainables.metrics import comparable
from losstune.trainables.recording import Recorder
from losstune.trainables.states import evaluated
from losstune.trainables.trainer import Stack
from losstune.trainables.trial import Trial


def measured(job: Job, stack: Stack, trial: Trial, test: Inputs, normalization: Normalization,
             recorder: Recorder | None) -> dict[str, Any]:  # fmt: skip
    """Of a report (messages.Report): a member's metrics on validation and test as "results", and as "files" the digests
    of what is written of it; or "failure", why it has failed after all.

    trial: the member's, which stack has trained to its end. recorder: of what else is kept, if anything.
    """
    inputs = {"validation": stack.validation, "test": test}
    logits = {name: stack.logits(trial.id, own)[0] for name, own in inputs.items()}
    targets = {name: own.y.cpu().numpy() for name, own in inputs.items()}
    # Validation has been trained on too where confirm trains on all.
    splits = ("test",) if job.confirm_on_all else ("test", "validation")
    scores = {name: job.scorer.all(logits[name], trial.loss, targets[name]) for name in splits}
    metric = job.scorer.metric.name
    for name, found in scores.items():
        if not comparable(found[metric]):
            return {"failure": unscored(found[metric], f"{metric} on {name}")}
    files = {"predictions": predictions.write(job.files / "predictions" / f"{trial.id}.npz", predictions.Predictions(
        logits["validation"], targets["validation"], logits["test"], targets["test"],
        loss_of(trial.loss).probabilities))}  # fmt: skip
    kept = {**evaluated(stack.state(trial.id)["members"][0]),
            "mean": normalization.mean, "scale": normalization.scale}  # fmt: skip
    files["weights"] = checkpoint.write(job.files / "weights" / f"{trial.id}.pt", kept)
    if recorder is not None:
        files |= recorder.write(job.files, trial.id, trial.loss, kept)
    return {"results": scores, "files": files}
