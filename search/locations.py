"""Where the parts of a study are that need not be in its folder: its checkpoints and predictions, and its ledger."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from losstune.search.ledger.postgresql import Server, server_of
from losstune.spaces import InputError
from losstune.trainables.checkpoint import write_bytes
from losstune.trainables.storage import Place, Stored, place_of, said_by


@dataclass(frozen=True)
class Locations:
    """storage: a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER, below which is a folder for each study; ledger:
    postgresql://USER@HOST/DATABASE. None: in the study's own folder."""

    storage: str | None = None
    ledger: str | None = None

    def checked(self) -> Locations:
        """These, a folder as an absolute path. InputError for what cannot be a place."""
        if self.ledger is not None:
            server_of(self.ledger, Path("study"))
        if self.storage is None:
            return self
        place = place_of(self.storage)
        return Locations(str(place.resolve()) if isinstance(place, Path) else self.storage, self.ledger)

    def check_reached(self) -> None:
        """InputError where the bucket of an object store is not there, or does not answer."""
        place = place_of(self.storage) if self.storage is not None else None
        if not isinstance(place, Stored):
            return
        bucket = Stored(place.store, place.path.partition("/")[0])
        try:
            if bucket.exists():
                return
            said = "there is no such bucket"
        except OSError as error:
            said = said_by(error)
        raise InputError(f"--storage {self.storage}: {said}; allowed: a bucket that this machine may write")


def locations_of(folder: Path) -> Locations:
    """Where the parts of the study in a folder are."""
    return _noted(folder)[0]


def _noted(folder: Path) -> tuple[Locations, bool]:
    """What is noted, and whether there is a ledger there, as far as the note says."""
    path = _note_in(folder)
    try:
        noted = json.loads(path.read_text(encoding="utf-8"))
        return Locations(noted["storage"], noted["ledger"]).checked(), bool(noted["recorded"])
    except (FileNotFoundError, NotADirectoryError):
        return Locations(), False
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: not what losstune writes ({type(error).__name__}); allowed: its removal, and the "
                         "--storage and --ledger of the study's first run, if any") from None  # fmt: skip


def _note(folder: Path, locations: Locations, recorded: bool) -> None:
    write_bytes(_note_in(folder), json.dumps({**asdict(locations), "recorded": recorded}).encode())


def settle(folder: Path, given: Locations) -> None:
    """Note where the parts of a study are to be, for all later commands.

    InputError where they are elsewhere already: what is only tried, and has not been recorded there, may change.
    """
    (noted, recorded), given = _noted(folder), given.checked()
    recorded |= ledger_path(folder).is_file()
    wanted = Locations(given.storage or noted.storage, given.ledger or noted.ledger) if recorded else given
    for name, before in asdict(noted).items():
        if recorded and before != getattr(wanted, name):
            raise InputError(f"--{name} {getattr(wanted, name)}: {folder.name} has it in {before or folder}; "
                             "allowed: the same, --name for another study, or another --out")  # fmt: skip
    if wanted != noted:
        wanted.check_reached()
        _note(folder, wanted, recorded=False)


def confirm(folder: Path) -> None:
    """A ledger is where settle has noted it: it stays there."""
    noted, recorded = _noted(folder)
    if noted != Locations() and not recorded:
        _note(folder, noted, recorded=True)


def ledger_path(folder: Path) -> Path:
    """Where a study's ledger lies in its folder, if it does."""
    return folder / "ledger" / "ledger.db"


def files_of(folder: Path) -> Place:
    """The place of a study's checkpoints, predictions and weights."""
    storage = locations_of(folder).storage
    return folder if storage is None else place_of(storage) / folder.name


def ledger_at(folder: Path) -> Path | Server:
    """Where a study's ledger is."""
    server = locations_of(folder).ledger
    return ledger_path(folder) if server is None else server_of(server, folder)


def is_recorded(at: Path | Server) -> bool:
    """Whether there is a ledger at a place."""
    return at.is_file() if isinstance(at, Path) else at.exists()


def _note_in(folder: Path) -> Path:
    return folder / "ledger" / "locations.json"
