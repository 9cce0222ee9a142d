"""Synthetic results with the shape and the numbers of the digits study."""

import numpy as np
import pandas as pd
import pytest

from losstune.analysis.results import Results
from losstune.spaces import SPACES
from losstune.spaces.hyperparameters import Choice

LOSSES = {
    "softmax": 0.9730, "label_smoothing": 0.9775, "dropout": 0.9742, "final_layer_l2": 0.9735,
    "logit_penalty": 0.9752, "logit_norm": 0.9790, "cosine_softmax": 0.9812, "sigmoid": 0.9728,
    "squared_error": 0.9690, "ce_el": 0.9715,
}  # fmt: skip
N_TEST, N_VALIDATION, CLASSES, CONSTANT = 360, 216, 10, 0.1
HALVING = (3, 9)


def _params(loss, number, rng):
    """The loss's default for number 0, then draws from its space."""
    space = SPACES[loss]
    params = {}
    for name, p in {**space.hyperparameters, **space.shared()}.items():
        if isinstance(p, Choice):
            params[name] = p.default if number == 0 else p.choices[rng.integers(len(p.choices))]
        elif hasattr(p, "low") and p.low < p.high:
            low, high = (np.log(p.low), np.log(p.high)) if p.log else (p.low, p.high)
            drawn = rng.uniform(low, high)
            params[name] = float(p.default if number == 0 else np.exp(drawn) if p.log else drawn)
    return params


def _curve(final, epochs, rng, width=0.002):
    rise = 1 - 0.9 * np.exp(-np.arange(1, epochs + 1) / 2.5)
    return np.clip(final * rise + rng.normal(0, width, epochs), 0, 1)


def _search(loss, mean, trials, epochs, rng):
    rows, curves = [], []
    for number in range(trials):
        params = _params(loss, number, rng)
        quality = mean - 0.012 * abs(np.log10(params["learning_rate"]) + 1) ** 2 - abs(rng.normal(0, 0.004))
        state = "complete" if number % 4 == 0 else "failed" if (loss, number) == ("squared_error", 5) else "stopped"
        lived = {"complete": epochs, "failed": 4}.get(state, HALVING[number % 2])
        values = _curve(quality, lived, rng)
        rows.append({
            "loss": loss, "number": number, "state": state, "score": CONSTANT if state == "failed" else values.max(),
            "epochs": lived, "best_epoch": int(values.argmax()) + 1, "member_epochs": 3 * lived,
            "slot_seconds": 0.05 * 3 * lived, "reason": "the loss became NaN in epoch 4" * (state == "failed"),
            "params": params,
        })  # fmt: skip
        curves += [("search", loss, number, epoch + 1, value, 2.3 * (1 - value) + 0.05)
                   for epoch, value in enumerate(values)]  # fmt: skip
    return rows, curves


def _confirm(loss, mean, best_epoch, seeds, effects, rng):
    rows, curves = [], []
    for seed in range(seeds):
        right = np.round(N_TEST * np.clip(mean + effects[seed] + rng.normal(0, 0.0025), 0, 1))
        accuracy = right / N_TEST
        defined = loss != "squared_error"
        rows.append({
            "loss": loss, "seed": seed, "state": "complete", "reason": "", "epochs": best_epoch, "accuracy": accuracy,
            "top5_accuracy": min(1.0, accuracy + 0.015), "nll": 3.2 * (1 - accuracy) if defined else np.nan,
            "ece": 0.01 + 0.3 * (1 - accuracy) if defined else np.nan, "validation_accuracy": accuracy + 0.002,
        })  # fmt: skip
        curves += [("confirm", loss, seed, epoch + 1, value, 2.3 * (1 - value))
                   for epoch, value in enumerate(_curve(mean, best_epoch, rng))]  # fmt: skip
    return rows, curves


def _budget(loss, trials, members):
    search = {
        "loss": loss, "phase": "search", "asked": len(trials),
        **{state: sum(t["state"] == state for t in trials) for state in ("complete", "stopped", "failed")},
        "member_epochs": sum(t["member_epochs"] for t in trials),
        "slot_seconds": sum(t["slot_seconds"] for t in trials) * (1.4 if loss == "ce_el" else 1.0),
    }  # fmt: skip
    epochs = sum(m["epochs"] for m in members)
    confirm = {"loss": loss, "phase": "confirm", "asked": len(members), "complete": len(members), "stopped": 0,
               "failed": 0, "member_epochs": epochs, "slot_seconds": 0.05 * epochs}  # fmt: skip
    return [search, confirm]


def synthetic_results(losses=None, seeds=10, trials=16, epochs=27, seed=0, rope=0.002, baseline="softmax"):
    """Results as the digits study would give them; losses: name -> mean accuracy."""
    losses, rng = losses or LOSSES, np.random.default_rng(seed)
    effects = rng.normal(0, 0.003, seeds)
    frames = {"members": [], "trials": [], "curves": [], "choices": [], "budget": []}
    for loss, mean in losses.items():
        tried, search_curves = _search(loss, mean, trials, epochs, rng)
        best = max((t for t in tried if t["state"] == "complete"), key=lambda t: t["score"])
        members, confirm_curves = _confirm(loss, mean, best["best_epoch"], seeds, effects, rng)
        frames["choices"].append({key: best[key] for key in ("loss", "number", "params", "best_epoch", "score")})
        frames["trials"] += tried
        frames["members"] += members
        frames["curves"] += search_curves + confirm_curves
        frames["budget"] += _budget(loss, tried, members)
    columns = ["phase", "loss", "trial", "epoch", "value", "train_loss"]
    curves = pd.DataFrame(frames.pop("curves"), columns=columns)
    study = {
        "name": "digits", "data": "digits", "network": "mlp", "metric": "accuracy", "baseline": baseline,
        "losses": list(losses), "epochs": epochs, "num_classes": CLASSES, "n_train": 1221,
        "search": {"trials": trials, "seeds": 3, "method": "tpe", "halving": {"first": 3, "factor": 3}},
        "confirm": {"seeds": seeds, "alpha": 0.05, "rope": rope, "train_on": "train"},
        "n_validation": N_VALIDATION, "n_test": N_TEST,
    }  # fmt: skip
    facts = {"losstune": "0.1.0", "torch": "2.15.0", "device": "cpu", "git commit": "0f3c2a1", "data digest": "9a41",
             "wall seconds": 141.2, "slot seconds outside training per trial": 0.08}  # fmt: skip
    return Results(study=study, greater_is_better=True, curves=curves, facts=facts,
                   **{name: pd.DataFrame(rows) for name, rows in frames.items()})  # fmt: skip


@pytest.fixture(scope="session")
def make_results():
    """The function itself: a test module cannot import this file by name where other folders have a conftest too."""
    return synthetic_results


@pytest.fixture(scope="session")
def results():
    return synthetic_results()
