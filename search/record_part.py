"""What a study records of the networks that it confirms, as its file says it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from losstune.search.fields import Part
from losstune.trainables.corruptions import CORRUPTIONS
from losstune.trainables.features import Curves, Recording

MOST_LAYER_EXAMPLES = 4096  # their number squared is stored per layer


def _whole(most: int | None, words: str = "") -> BeforeValidator:
    def check(value: Any) -> Any:
        if value is None:
            return 0
        if words and value == words:
            return value
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or value < 0 or (most is not None and value > most):
            limit = "" if most is None else f" up to {most}"
            raise ValueError(f"should be a whole number{limit}, 0 for none{f', or {words}' if words else ''}")
        return value

    return BeforeValidator(check)


def _every(value: Any) -> Any:
    """Of `curves: 5`, after every so many epochs; of false, 0 or null, never."""
    if value is False or value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError("should be a whole number of epochs, or false for none")
    return value


def _corruptions(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return tuple(CORRUPTIONS) if value else ()
    known = isinstance(value, list | tuple) and all(isinstance(name, str) and name in CORRUPTIONS for name in value)
    if not known or len(set(value)) < len(value):
        raise ValueError(f"should be true, false, or a list of {', '.join(CORRUPTIONS)}")
    return value


class RecordPart(Part):
    """What is kept of each confirmed member beside predictions and weights; 0 or null: none.

    features: the penultimate features of so many test examples, and of as many training examples; all: of all that are
    looked at. layers: how similar so many test examples are in each layer. train_examples: how many training examples
    are looked at, for features and for statistics; the test examples all are.
    curves: after how many epochs, over and over, those training examples are measured: the margin's bias, neural
    collapse and class separation over training. false: not at all. Each time takes an evaluation of so many examples,
    member after member, three where their features exceed 512 MiB, and sums in float64: a third to four fifths of an
    epoch of one member, measured on a CPU, plus 6 s for 2048 features of 4,000 examples of 1,000 classes.
    corruptions: how well corrupted test images are recognized; true: all of trainables/corruptions.py, or their names;
    of so many test examples at most, corruption_examples. shifted: test sets of the same classes, by a name each; of
    data sets as `data` takes them the test split. transfer: data sets of any classes, as `data` takes them, whose
    penultimate features are kept, of so many examples at most of training and of test, transfer_examples; those of the
    study's own data are kept then too, and own is only these.
    """

    features: Annotated[Any, _whole(None, "all")] = 1000
    layers: Annotated[Any, _whole(MOST_LAYER_EXAMPLES)] = 256
    train_examples: Annotated[Any, _whole(None)] = 10_000
    curves: Annotated[Any, BeforeValidator(_every)] = 0
    corruptions: Annotated[tuple[str, ...], BeforeValidator(_corruptions)] = ()
    corruption_examples: Annotated[Any, _whole(None)] = 10_000
    shifted: dict[Annotated[str, Field(pattern=r"^[\w.+-][\w .+-]{0,39}$")], str] = {}
    transfer: tuple[str, ...] = ()
    transfer_examples: Annotated[Any, _whole(None)] = 5_000

    @model_validator(mode="after")
    def _check(self) -> RecordPart:
        if self.curves and not self.train_examples:
            raise ValueError("curves are of training examples; allowed: train_examples above 0, or curves: false")
        return self


def recording(part: RecordPart | None) -> Recording | None:
    """What lanes are told to record."""
    if part is None:
        return None
    # What it imports takes a moment, and most commands need none of it.
    from losstune.analysis.followed import training_measures

    curves = Curves(part.curves, training_measures) if part.curves else None
    return Recording(None if part.features == "all" else part.features, part.layers, part.train_examples, curves,
                     part.corruptions if part.corruption_examples else (), part.corruption_examples,
                     bool(part.shifted or part.transfer))  # fmt: skip
