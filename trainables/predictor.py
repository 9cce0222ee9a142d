"""A confirmed model, ready to predict: load_model("report/winner.yaml")."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import yaml

from losstune.spaces import InputError
from losstune.trainables import checkpoint
from losstune.trainables.augmentation import resolve
from losstune.trainables.losses.combine import loss_of
from losstune.trainables.metrics import to_probabilities
from losstune.trainables.network import Network
from losstune.trainables.rows import HEAD
from losstune.trainables.states import set_weights

BATCH = 1024  # examples


class Model:
    """A network with its confirmed weights. Inputs are as in the data set: (N, *input_shape), not normalized."""

    def __init__(self, fields: dict, state: dict):
        self.loss, self.class_names = fields["loss"], fields["class_names"]
        self._input_shape = tuple(fields["input_shape"])
        augmentation = fields.get("recipe", {}).get("augmentation", "none")
        self._pipeline = resolve(augmentation, self._input_shape)
        network = Network(fields["network"], self._pipeline.output_shape, len(self.class_names),
                          source=fields["network_source"])  # fmt: skip
        self._backbone = network.build()[0].eval()
        parameters = state["parameters"]
        self._head = {key.removeprefix(HEAD): p for key, p in parameters.items() if key.startswith(HEAD)}
        set_weights(self._backbone, parameters, state["buffers"])
        self._mean, self._scale = state["mean"], state["scale"]
        self._hyperparameters = fields["configuration"]

    @torch.no_grad()
    def logits(self, x: np.ndarray) -> np.ndarray:
        """Transformed logits (N, K) in float32. InputError when the inputs' shape is not the data set's."""
        x = np.asarray(x)
        if x.shape[1:] != self._input_shape:
            raise InputError(f"x: shape {x.shape}; allowed: (N, {', '.join(map(str, self._input_shape))})")
        parts = []
        for start in range(0, len(x), BATCH):
            batch = self._pipeline.at_test(torch.from_numpy(np.ascontiguousarray(x[start : start + BATCH]))).float()
            features = self._backbone((batch - self._mean) * self._scale)
            parts.append(loss_of(self.loss).logits(features, self._head, self._hyperparameters))
        return torch.cat(parts).numpy() if parts else np.empty((0, len(self.class_names)), np.float32)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """The predicted class of each example, (N,) int64."""
        return self.logits(x).argmax(1)

    def probabilities(self, x: np.ndarray) -> np.ndarray | None:
        """Probabilities (N, K), or None where the loss defines none."""
        return to_probabilities(self.logits(x), loss_of(self.loss).probabilities)


def load_model(path: str | Path) -> Model:
    """The model that a winner.yaml describes. InputError when it or its weights are missing or altered."""
    path = Path(path)
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
        return Model(fields, checkpoint.read(path.with_name(fields["weights"]), fields["weights_sha256"]))
    except Exception as error:  # an altered file fails anywhere on the way to a model
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: not a winner with its weights ({type(error).__name__}: {reason}); "
                         "allowed: report/winner.yaml of a finished study") from error  # fmt: skip
