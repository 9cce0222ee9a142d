"""The typed study and its validation: what is compared, on what, how it is trained, searched and confirmed."""

from __future__ import annotations

import contextlib
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from losstune.search import yaml_file
from losstune.search.fields import Number, Part, Positive, Whole, one_line
from losstune.search.grids import check_grids
from losstune.search.ranges import LossSpace, resolve
from losstune.search.recipe_part import RecipePart, check_recipe
from losstune.search.record_part import RecordPart
from losstune.spaces import InputError
from losstune.trainables.architectures import check_architecture
from losstune.trainables.metrics import METRICS
from losstune.trainables.metrics import source_of as metric_source
from losstune.trainables.user_files import read_text, split_reference


class SplitPart(Part):
    """How validation is held out of training, stratified."""

    validation: Annotated[float, Number, Field(gt=0, lt=1)] = 0.15
    seed: Annotated[int, Number, Field(ge=0, lt=2**32)] = 0


class HalvingPart(Part):
    """Asynchronous successive halving: the first rung in epochs, and the share 1/factor that goes on."""

    first: Whole = 3
    factor: Annotated[int, Number, Field(ge=2, le=1_000_000)] = 3


class SearchPart(Part):
    """How each loss's configurations are found, and how many at most."""

    method: Literal["tpe", "random", "grid", "coarse_to_fine"] = "tpe"
    trials: Annotated[Whole, Field(le=100_000)] = 16
    seeds: Whole = 3
    halving: HalvingPart | None = HalvingPart()


class ConfirmPart(Part):
    """How many fresh seeds are confirmed, and how they are tested.

    seeds: so many for now. looks: the numbers of seeds at which a look at the results is planned; a list for seeds in
    the study's file is that plan, with all of its seeds.
    """

    seeds: Whole = 10
    train_on: Literal["train", "all"] = "train"
    alpha: Annotated[float, Number, Field(gt=0, lt=1)] = 0.05
    rope: Positive | None = None
    looks: tuple[Whole, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _planned(cls, fields: Any) -> Any:
        seeds = fields.get("seeds") if isinstance(fields, dict) else None
        if not isinstance(seeds, list) or not seeds or "looks" in fields:
            return fields
        plan = {"looks": seeds} if len(seeds) > 1 else {}
        return {**fields, **plan, "seeds": seeds[-1]}

    @property
    def stages(self) -> list[int]:
        """The numbers of seeds that a run confirms and reports one after another: planned looks, and seeds itself."""
        return [*(look for look in self.looks if look < self.seeds), self.seeds]


class StopPart(Part):
    """When to stop: the search after so many hours; a lane in which not even a step ends for so many minutes."""

    hours: Positive | None = None
    stalled_minutes: Annotated[float, Number, Field(ge=0.001, le=1_000_000, allow_inf_nan=False)] = 10


class ResourcesPart(Part):
    """What one lane takes, how many lanes and members at most, and how networks are computed.

    memory_gib: what Ray sets aside of a machine's memory for a lane. accelerator_type: the GPU's, as Ray
    names it ("A100").
    max_lanes: on a cluster so many are asked for, whether or not there is room yet: they are what it grows for.
    backend: auto measures once which is fastest, and keeps it; another fixes it. compile: by torch.compile, which takes
    a minute at first and pays for large networks on a GPU.
    """

    cpus: Positive = 1
    gpus: Annotated[float, Number, Field(ge=0)] = 0
    memory_gib: Positive | None = None
    accelerator_type: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,80}$")] | None = None
    max_lanes: Whole | None = None
    members: Whole | None = None
    backend: Literal["auto", "batched", "grouped", "vmap", "streams", "sequential"] = "auto"
    compile: bool = False


LISTED = ("data", "network")  # the fields of which a study may list several


class Study(Part):
    """One experiment. path and sources are not fields of the file: where it lies, and the user's code it names.

    searches: how often all of it is repeated, each time with a split and a search of its own, see search/repeated.py.
    data, network: of a study of several, the first ones; see `several`.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$")]
    data: str
    network: str
    metric: str = "accuracy"
    baseline: str | None = None
    split: SplitPart = SplitPart()
    space: str = "default"
    losses: tuple[Any, ...] = Field(min_length=1)
    recipe: RecipePart = RecipePart()
    search: SearchPart = SearchPart()
    searches: Annotated[Whole, Field(le=1000)] = 1
    confirm: ConfirmPart = ConfirmPart()
    record: RecordPart | None = RecordPart()
    stop: StopPart = StopPart()
    resources: ResourcesPart = ResourcesPart()

    _spaces: dict[str, LossSpace] = {}
    _folder: Path = Path()
    _where: str = ""
    _fields: dict[str, Any] = {}
    _sources: dict[str, str] = {}
    _listed: dict[str, tuple[str, ...]] = {}

    @property
    def several(self) -> dict[str, tuple[str, ...]]:
        """What is listed for data or network, where that is more than one, see search/several.py."""
        return {field: values for field, values in self._listed.items() if len(values) > 1}

    @property
    def spaces(self) -> dict[str, LossSpace]:
        """What is searched and what is fixed, per loss, in the study's order."""
        return self._spaces

    def settle(self, num_classes: int) -> None:
        """Make numbers of the defaults that depend on the number of classes, once that is known."""
        self._spaces.update({loss: space.for_classes(num_classes) for loss, space in self._spaces.items()})

    @property
    def folder(self) -> Path:
        """The folder of the study file, against which relative paths are resolved."""
        return self._folder

    @property
    def where(self) -> str:
        """What errors call the study: the path or name it was loaded by."""
        return self._where

    @property
    def fields(self) -> dict[str, Any]:
        """The study as it was written, from which make_study makes it again."""
        return self._fields

    @property
    def sources(self) -> dict[str, str]:
        """The text of the user's own files, by the field that names them: data, network, metric."""
        return self._sources

    @property
    def declared_baseline(self) -> str | None:
        """What gains are measured against: the study's baseline, else softmax where it is among the losses."""
        return self.baseline or ("softmax" if "softmax" in self._spaces else None)

    def up_to(self, seeds: int) -> Study:
        """This study with so many seeds to confirm, its planned looks as they are."""
        confirm = self.confirm.model_copy(update={"seeds": seeds})
        study = self.model_copy(update={"confirm": confirm})
        looks = {"looks": list(confirm.looks)} if confirm.looks else {}
        study._fields = {**self._fields, "confirm": {**self._fields.get("confirm", {}), **looks, "seeds": seeds}}
        return study

    def rungs(self) -> list[int]:
        """The epochs at which a search trial reports, the full length last."""
        rungs, epoch = [], self.search.halving.first if self.search.halving else self.recipe.epochs
        while epoch < self.recipe.epochs:
            rungs.append(epoch)
            epoch *= self.search.halving.factor
        return [*rungs, self.recipe.epochs]


def load_study(path: str | Path, overrides: tuple[str, ...] = ()) -> Study:
    """Read and validate a study: a path, or the name of a shipped study ("digits").

    overrides: assignments as `--set` takes them, "search.trials=8". One number for confirm.seeds leaves the looks that
    the file plans as they are; a list is another plan. Raises InputError with one line: file, field, what is wrong,
    what is allowed.
    """
    file = find_study(str(path))
    fields = yaml_file.read(file)
    planned = _seeds_of(fields)
    for assignment in overrides:
        yaml_file.override(fields, assignment)
    if isinstance(planned, list) and isinstance(_seeds_of(fields), int):
        fields["confirm"].setdefault("looks", planned)
    fields.setdefault("name", file.stem)
    return make_study(fields, str(path), file.parent)


def _seeds_of(fields: dict[str, Any]) -> Any:
    confirm = fields.get("confirm")
    return confirm.get("seeds") if isinstance(confirm, dict) else None


def find_study(name: str) -> Path:
    """The file of a study given by path or by shipped name."""
    path = Path(name)
    with contextlib.suppress(OSError):  # a name that is too long for any file
        if path.is_file():
            return path
    shipped = shipped_studies()
    if name in shipped:
        return shipped[name]
    raise InputError(f"{name[:200]}: no such study file; allowed: a path, or one of {', '.join(shipped)}")


def shipped_studies() -> dict[str, Path]:
    """The studies that come with losstune, by name."""
    folder = Path(__file__).resolve().parent.parent / "studies"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def make_study(fields: dict[str, Any], where: str, folder: Path) -> Study:
    """A study from its fields; where names them in errors."""
    listed = {field: _listed(fields[field], f"{where}: {field}") for field in LISTED
              if isinstance(fields.get(field), list)}  # fmt: skip
    try:
        study = Study.model_validate({**fields, **{field: values[0] for field, values in listed.items()}})
    except ValidationError as error:
        raise InputError(f"{where}: {one_line(error, Study)}") from None
    study._listed.update(listed)
    study._spaces.update(resolve(study.losses, study.recipe, where, study.space))
    study._folder, study._where = folder.resolve(), where
    study._fields.update(fields)
    _check(study, where)
    try:
        check_recipe(study.recipe, study.losses)
        check_architecture(study.network)
        study._sources.update(_own_files(study))
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return study


def _listed(values: list[Any], where: str) -> tuple[str, ...]:
    """A field that lists several: each is what the field else is, and is listed once."""
    wrong = [value for value in values if not isinstance(value, str)]
    if wrong or not values or len(set(values)) < len(values):
        what = f"{wrong[0]!r} in the list" if wrong else "the list is empty" if not values else "one is listed twice"
        raise InputError(f"{where}: {what}; allowed: one name, or a list of different ones")
    return tuple(values)


def _own_files(study: Study) -> dict[str, str]:
    """The text of the user's own files, which is shipped to the workers and part of the study's identity."""
    texts = {"metric": metric_source(study.metric, study.folder)}
    for field in ("data", "network"):
        reference = split_reference(getattr(study, field))
        texts[field] = read_text(reference[0], study.folder, field) if reference else None
    return {field: text for field, text in texts.items() if text is not None}


def _check(study: Study, where: str) -> None:
    """What one field alone does not show."""
    if study.baseline is not None and study.baseline not in study.spaces:
        raise InputError(f"{where}: baseline: {study.baseline!r} is not a loss of the study; "
                         f"allowed: {', '.join(study.spaces)}")  # fmt: skip
    looks = study.confirm.looks
    if any(look < 2 for look in looks) or any(later <= look for look, later in pairwise(looks)):
        raise InputError(f"{where}: confirm.seeds: {list(looks)} are no planned looks; "
                         "allowed: rising numbers of seeds from 2 on, such as [10, 20, 40]")  # fmt: skip
    if looks and study.searches > 1:
        raise InputError(f"{where}: confirm.seeds: looks are planned at {list(looks)} seeds, and the search is "
                         "repeated; allowed: one number of seeds, or searches: 1")  # fmt: skip
    if study.several and study.searches > 1:
        raise InputError(f"{where}: searches: {study.searches}, with several in {' and '.join(study.several)}; "
                         "allowed: searches: 1, or one data set and network")  # fmt: skip
    if study.search.method == "grid":
        check_grids(study.spaces, study.search.trials, where)
    halving = study.search.halving
    if halving and halving.first > study.recipe.epochs:
        raise InputError(f"{where}: search.halving.first: {halving.first} is beyond recipe.epochs; "
                         f"allowed: 1 to {study.recipe.epochs}")  # fmt: skip
    known = study.metric in METRICS or study.metric.startswith("cost:") or split_reference(study.metric)
    if study.metric == "ece":
        allowed = ", ".join(name for name in METRICS if name != "ece")
        raise InputError(f"{where}: metric: ece is best for a model that knows only how frequent the classes are; "
                         f"allowed: {allowed}, cost:FILE.csv, or my_metric.py:score")  # fmt: skip
    if not known:
        raise InputError(f"{where}: metric: unknown metric {study.metric!r}; "
                         f"allowed: {', '.join(METRICS)}, cost:FILE.csv, or my_metric.py:score")  # fmt: skip
