"""What a bad disk, a broken copy or an editor has made of a study's files: one line each, never a traceback."""

import json
import random
import shutil
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from losstune import load_model, load_results
from losstune.search.ledger import schema
from losstune.search.ledger.database import get_meta
from losstune.search.ledger.lock import RunLock
from losstune.search.ledger.lock import holder as held_by
from losstune.search.locations import ledger_path
from losstune.search.tracked_runs import picture
from losstune.spaces import InputError
from losstune.trainables import predictions

WOULD_TRAIN = 77  # the status where training would start
COMMANDS = ["status", "run", "sync", "doctor"]
GARBAGE = [b"", b"\x00" * 5000, b"# a text file\n", random.Random(0).randbytes(5000), b"\xff\xfe", b"[" * 100_000,
           b"null", b"[]", b'{"a": 1}', b"3", b'"text"', b"{"]  # fmt: skip


@pytest.fixture
def say(study, losstune, monkeypatch, undrawn):
    """say(command): how a command on the damaged copy ends, by name or by file; nothing is trained."""
    monkeypatch.chdir(study.folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr("losstune.search.phases._train", lambda *_: sys.exit(WOULD_TRAIN))

    def call(command: str):
        ended = losstune(command, "my.yaml" if command == "run" else "my")
        assert "Traceback" not in ended.err + ended.out, ended
        assert ended.status in (0, 2, 3, WOULD_TRAIN), ended
        # A doctor that has found what it cannot repair says so in its findings.
        lines = 1 if ended.status in (2, 3) and command != "doctor" else ended.err.count("\n")
        assert ended.err.count("\n") == lines <= 1, ended
        return ended

    return call


def sound(action) -> bool:
    """Whether an action succeeds; what it raises otherwise is an InputError of one line."""
    try:
        action()
    except InputError as error:
        assert "\n" not in str(error)
        return False
    return True


def spoil(draw: random.Random, content: bytes) -> bytes:
    """Cut off, altered in some bits, in a block, or with a part of itself somewhere else."""
    altered = bytearray(content)
    kind = draw.choice(["cut", "bits", "bits", "block", "moved"])
    place = draw.randrange(len(altered))
    if kind == "cut":
        del altered[place:]
    elif kind == "bits":
        for _ in range(draw.choice([1, 5, 50])):
            altered[draw.randrange(len(altered))] ^= 1 << draw.randrange(8)
    elif kind == "block":
        altered[place : place + 512] = draw.choice([bytes(512), draw.randbytes(512)])
    else:
        other = draw.randrange(len(altered))
        altered[place : place + 200] = altered[other : other + 200]
    return bytes(altered)


# --- the ledger ---


@pytest.mark.parametrize("seed", range(40))
def test_a_ledger_with_altered_bytes(study, say, seed):
    """Whether they are found by SQLite, come out as other values, or do not matter."""
    draw, path = random.Random(seed), ledger_path(study.out)
    path.write_bytes(spoil(draw, path.read_bytes()))
    sound(lambda: load_results(study.out))
    sound(lambda: picture(study.out))
    say("status")
    say(draw.choice(COMMANDS))


def test_a_ledger_whose_values_are_altered(study, say):
    """Each column of each table in turn, by values that SQLite takes in any column."""
    path = ledger_path(study.out)
    content = path.read_bytes()
    for table in schema.metadata.tables.values():
        for column in table.columns:
            for value in ("text", -5, 1e300, b"\xff\x00", None):
                path.write_bytes(content)
                connection = sqlite3.connect(path)
                try:
                    connection.execute(f"UPDATE {table.name} SET {column.name} = ?", (value,))
                    connection.commit()
                except sqlite3.IntegrityError:
                    continue
                finally:
                    connection.close()
                sound(lambda: load_results(study.out))
                sound(lambda: picture(study.out))
                say("status")
                say("run")


def test_a_ledger_whose_structured_values_are_altered(study, say):
    """JSON of other shapes."""
    path, draw = ledger_path(study.out), random.Random(0)
    content = path.read_bytes()
    places = [(table.name, column.name) for table in schema.metadata.tables.values() for column in table.columns
              if str(column.type) == "JSON"]  # fmt: skip
    for table, column in places:
        for value in ("null", "3", "[]", "{}", '"text"', '[{"a": 1}]', '{"a": {"b": 1}}', "[null]", "nonsense"):
            path.write_bytes(content)
            connection = sqlite3.connect(path)
            try:
                where = "key = ?" if table == "meta" else "1 OR ?"
                key = draw.choice(["identity", "study", "fields", "facts", "choice_of", "schema", "generation"])
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value, key))
                connection.commit()
            finally:
                connection.close()
            sound(lambda: load_results(study.out))
            sound(lambda: picture(study.out))
            say("status")
            say("run")
            say("doctor")


@pytest.mark.parametrize("content", GARBAGE)
def test_a_file_that_is_no_ledger(study, say, content):
    """And it is left as it is: somebody may want to rescue it."""
    for other in ("copy.db", "ledger.db-wal", "ledger.db-shm"):
        (study.out / "ledger" / other).unlink(missing_ok=True)
    ledger_path(study.out).write_bytes(content)
    for command in (*COMMANDS, "report"):
        assert say(command).status in (2, 3), command
        assert ledger_path(study.out).read_bytes() == content, command


@pytest.mark.parametrize("name", ["ledger.db", "ledger.db-wal", "ledger.db-shm", "lock", "mlflow.json", "mlflow.lock",
                                  "copy.db"])  # fmt: skip
@pytest.mark.parametrize("command", COMMANDS)
def test_folders_in_the_place_of_files(study, say, command, name):
    """Nothing can be read or written there; what can put the ledger's copy back does so."""
    place = study.out / "ledger" / name
    place.unlink(missing_ok=True)
    (place / "inner").mkdir(parents=True)
    ended = say(command)
    if name == "ledger.db" and command in ("run", "doctor"):
        assert "the copy of" in ended.out + ended.err and ledger_path(study.out).is_file(), ended
    else:
        assert ended.status in ((2, 3) if name == "ledger.db" else (0, 2, 3, WOULD_TRAIN)), ended


def test_a_ledgers_folder_that_is_a_file(study, say):
    """One line."""
    shutil.rmtree(study.out / "ledger")
    (study.out / "ledger").write_text("")
    for command in COMMANDS:
        assert say(command).status == 2


@pytest.mark.parametrize("seed", range(12))
def test_a_journal_with_altered_bytes(study, say, seed):
    """SQLite holds it to checksums: what is altered, and what follows, was never committed."""
    path, draw = ledger_path(study.out), random.Random(seed)
    before = path.read_bytes()
    connection = sqlite3.connect(path)
    for number in range(5):
        connection.execute("INSERT INTO events (time, kind, text) VALUES (?, 'run', 'again')", (1e9 + number,))
        connection.commit()
    journal = path.with_name("ledger.db-wal").read_bytes()
    connection.close()
    path.write_bytes(before)
    path.with_name("ledger.db-wal").write_bytes(spoil(draw, journal))
    path.with_name("ledger.db-shm").unlink(missing_ok=True)
    assert sum(event["text"] == "again" for event in study.read(lambda tx: [
        dict(row) for row in tx.exec_driver_sql("SELECT * FROM events").mappings()])) <= 5  # fmt: skip
    assert say("status").status == 0
    assert say(draw.choice(COMMANDS)).status in (0, WOULD_TRAIN)


def test_the_ledger_of_another_study(study, say):
    """Its evidence is not mixed with this one's."""
    path = ledger_path(study.out)
    connection = sqlite3.connect(path)
    (identity,) = connection.execute("SELECT value FROM meta WHERE key = 'identity'").fetchone()
    identity = json.loads(identity)
    identity["recipe"]["epochs"] = 5
    connection.execute("UPDATE meta SET value = ? WHERE key = 'identity'", (json.dumps(identity),))
    connection.commit()
    connection.close()
    ended = say("run")
    assert ended.status == 2 and "recipe.epochs: was 5, now 3" in ended.err, ended


def test_a_ledger_without_a_study(study, say):
    """As of a run that was killed right after it had made it."""
    path = ledger_path(study.out)
    connection = sqlite3.connect(path)
    connection.execute("DELETE FROM meta WHERE key IN ('study', 'fields', 'identity', 'facts', 'report_of')")
    connection.commit()
    connection.close()
    for command in ("status", "report", "sync"):
        ended = say(command)
        assert ended.status == 2 and "its ledger holds no study yet" in ended.err, ended
    assert not sound(lambda: load_results(study.out))


@pytest.mark.parametrize("command", [*COMMANDS, "report"])
def test_a_ledger_of_a_newer_losstune(study, say, command):
    """What it keeps there is not known here."""
    path = ledger_path(study.out)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")
    connection.commit()
    connection.close()
    ended = say(command)
    assert ended.status == 2 and "written by a newer losstune (schema 99); allowed: up to" in ended.err, ended


def make_older(path: Path, version: int) -> None:
    """The same study as an older losstune would have recorded it, interrupted: a trial has a checkpoint."""
    connection = sqlite3.connect(path)
    connection.execute("UPDATE trials SET state = 'running', ended = NULL, epoch = 0, trained = 0, score = NULL, "
                       "best_epoch = NULL WHERE id = 'search-softmax-0001'")  # fmt: skip
    connection.execute("DELETE FROM trials WHERE phase = 'confirm'")
    connection.execute("DELETE FROM choices")
    connection.execute("DELETE FROM reports WHERE trial = 'search-softmax-0001' OR trial LIKE 'confirm%'")
    for column in ("joined", "checkpoints", "files", *(["trained"] if version == 1 else [])):
        connection.execute(f"ALTER TABLE trials DROP COLUMN {column}")
    for column in ("checkpoint VARCHAR", "checkpoint_digest VARCHAR",
                   "checkpoint_epoch INTEGER NOT NULL DEFAULT 0"):  # fmt: skip
        connection.execute(f"ALTER TABLE trials ADD COLUMN {column}")
    connection.execute("UPDATE trials SET checkpoint = 'checkpoints/gone.pt', checkpoint_digest = 'd', "
                       "checkpoint_epoch = 1 WHERE state = 'running'")  # fmt: skip
    connection.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (json.dumps(version),))
    connection.execute("DELETE FROM meta WHERE key IN ('report_of', 'choice_of', 'projected')")
    connection.commit()
    connection.close()


def test_a_study_in_the_oldest_ledger_goes_on(study, finished_study):
    """To the same end."""
    make_older(ledger_path(study.out), 1)
    ended = study.run().ended
    assert ended.status == 0, ended
    same = ("id", "parameters", "configuration", "state", "epoch", "score", "best_epoch", "results")
    assert [[row[name] for name in same] for row in sorted(study.trials(), key=lambda row: row["id"])] == [
        [row[name] for name in same] for row in sorted(finished_study.trials(), key=lambda row: row["id"])]  # fmt: skip
    assert study.read(get_meta, "schema") == schema.VERSION


def test_every_older_ledger_is_read_and_comes_out_the_same(study, say):
    """By every command, without a run before it; what writes there brings each to the same content."""
    path, content = ledger_path(study.out), ledger_path(study.out).read_bytes()
    upgraded = []
    for version in (1, 2):
        for command in ("status", "sync", "doctor"):
            path.write_bytes(content)
            make_older(path, version)
            assert say(command).status in (0, 3), (version, command)
        upgraded.append(study.trials())
        assert study.read(get_meta, "schema") == schema.VERSION
    assert all(row["trained"] == row["epoch"] for row in upgraded[0])  # the first schema did not tell them apart
    first, second = ([{**row, "trained": None} for row in rows] for rows in upgraded)
    assert first == second and len(first) == 4


# --- small files beside it ---


@pytest.mark.parametrize("content", GARBAGE)
def test_a_lock_that_holds_anything(study, say, content):
    """Who held it is forgotten, that it is held is not."""
    (study.out / "ledger" / "lock").write_bytes(content)
    assert [say(command).status for command in ("status", "run", "doctor")] == [0, 0, 0]
    assert held_by(study.out / "ledger") is None
    lock = RunLock(study.out / "ledger")
    (study.out / "ledger" / "lock").write_bytes(content)
    assert str(held_by(study.out / "ledger")) == "another process"
    assert "another process" in say("doctor").err
    lock.release()


@pytest.mark.parametrize("content", [*GARBAGE, b'{"reachable": false}', b'{"reachable": false, "since": "x"}',
                                     b'{"reachable": false, "since": 1e300, "behind": 3, "error": "down"}',
                                     b'{"reachable": false, "since": 1e9}'])  # fmt: skip
def test_a_note_on_mlflow_that_holds_anything(study, say, content):
    """It says how the projection is doing, and no more depends on it."""
    (study.out / "ledger" / "mlflow.json").write_bytes(content)
    assert say("status").status == 0
    assert say("run").status == 0
    assert say("sync").status == 0


@pytest.mark.parametrize(("name", "content"), [
    *(("verdict.json", content) for content in (*GARBAGE, None)),
    *((name, content) for name in ("runs.csv", "table.csv", "winner.yaml", "report.html")
      for content in (b"", GARBAGE[3], None)),
])  # fmt: skip
def test_reports_that_were_altered(study, say, name, content):
    """Nothing but the verdict is read again, and the line on it says how to have it written anew."""
    path = study.report / name
    path.unlink() if content is None else path.write_bytes(content)
    ended = say("run")
    if name == "verdict.json":
        assert ended.status == 2 and "verdict.json: damaged" in ended.err and "losstune report my" in ended.err, ended
    else:
        assert ended.status in ((0, WOULD_TRAIN) if name != "report.html" or content is not None else (0,)), ended
    assert sound(lambda: load_results(study.out))
    assert say("sync").status == 0


def test_a_damaged_report_is_written_anew(study, say):
    """As the line on it says."""
    verdict = (study.report / "verdict.json").read_bytes()
    (study.report / "verdict.json").write_bytes(b"{")
    assert say("report").status == 0
    assert json.loads((study.report / "verdict.json").read_bytes())["headline"] == json.loads(verdict)["headline"]


def test_a_report_whose_weights_are_damaged_says_what_to_do(study, say):
    """A winner with other weights than were confirmed would be worse than none."""
    (weights,) = (study.out / "weights").glob("confirm0-softmax-0000.pt")
    other = next(path for path in (study.out / "weights").glob("*.pt") if path != weights)
    for path in (weights, other):
        path.write_bytes(path.read_bytes()[:-10])
    ended = say("report")
    assert ended.status == 2 and "losstune doctor" in ended.err, ended
    for path in (weights, other):
        path.unlink()
    ended = say("report")
    assert ended.status == 2 and "losstune doctor" in ended.err, ended


# --- predictions and models ---


def test_predictions_with_altered_bytes(finished_study, tmp_path):
    """They are the same, or they are refused: never others."""
    (path, *_) = (finished_study.out / "predictions").glob("*.npz")
    whole, content, draw = predictions.read(path), path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(300):
        (tmp_path / "a.npz").write_bytes(spoil(draw, content))
        try:
            found = predictions.read(tmp_path / "a.npz")
        except InputError as error:
            assert "\n" not in str(error) and "a.npz: not a confirmed member's predictions" in str(error)
            refused += 1
            continue
        for name, value in vars(whole).items():
            assert np.array_equal(getattr(found, name), value)
    assert refused > 200


@pytest.mark.parametrize("content", GARBAGE)
def test_files_that_are_no_predictions(tmp_path, content):
    """Nor pickles, nor archives of something else."""
    (tmp_path / "a.npz").write_bytes(content)
    assert not sound(lambda: predictions.read(tmp_path / "a.npz"))
    assert not sound(lambda: predictions.read(tmp_path))
    assert not sound(lambda: predictions.read(tmp_path / "none.npz"))


GOOD = {"validation_logits": np.zeros((3, 2), np.float32), "validation_targets": np.zeros(3, np.int64),
        "test_logits": np.zeros((3, 2), np.float32), "test_targets": np.zeros(3, np.int64),
        "probabilities": "softmax"}  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [{"test_logits": None}, {"more": np.zeros(3)}, {"test_logits": np.zeros((2, 2), np.float32)},
     {"test_logits": np.zeros((3, 2))}, {"test_logits": np.zeros(3, np.float32)}, {"test_targets": np.zeros(3)},
     {"test_targets": np.zeros((3, 1), int)}, {"probabilities": "something"}, {"probabilities": None},
     {"test_logits": np.array([[object()]])}],
)  # fmt: skip
def test_archives_of_other_arrays(tmp_path, changes):
    """Missing ones, others, other types and shapes, pickled ones."""
    np.savez(tmp_path / "good.npz", **GOOD)
    assert sound(lambda: predictions.read(tmp_path / "good.npz"))
    np.savez(tmp_path / "a.npz", **{name: value for name, value in (GOOD | changes).items() if value is not None})
    assert not sound(lambda: predictions.read(tmp_path / "a.npz"))


def test_a_model_with_altered_files(finished_study, tmp_path):
    """Of winner.yaml comments and names may be altered unseen; the weights never."""
    draw, expected = random.Random(0), load_model(finished_study.report / "winner.yaml")
    x = np.zeros((2, *expected._input_shape), np.float32)
    for name in ("winner.yaml", "winner.pt"):
        content = (finished_study.report / name).read_bytes()
        for _ in range(60):
            for file in ("winner.yaml", "winner.pt"):
                shutil.copy(finished_study.report / file, tmp_path / file)
            (tmp_path / name).write_bytes(spoil(draw, content))
            try:
                model = load_model(tmp_path / "winner.yaml")
            except InputError as error:
                assert "\n" not in str(error)
                continue
            assert name == "winner.yaml" or np.array_equal(model.logits(x), expected.logits(x))


@pytest.mark.parametrize("content", [*GARBAGE, b"weights: 3\n", b"weights: ..\nweights_sha256: x\n", b"weights: ''\n",
                                     b"weights: winner.pt\n", b"&a [*a]",
                                     b"weights: [a]\nweights_sha256: 1\n"])  # fmt: skip
def test_files_that_describe_no_model(finished_study, tmp_path, content):
    """In the place of winner.yaml, and of the weights."""
    shutil.copy(finished_study.report / "winner.pt", tmp_path / "winner.pt")
    (tmp_path / "winner.yaml").write_bytes(content)
    assert not sound(lambda: load_model(tmp_path / "winner.yaml"))
    shutil.copy(finished_study.report / "winner.yaml", tmp_path / "winner.yaml")
    (tmp_path / "winner.pt").write_bytes(content)
    assert not sound(lambda: load_model(tmp_path / "winner.yaml"))
    assert not sound(lambda: load_model(tmp_path)) and not sound(lambda: load_model(tmp_path / "none"))


def test_weights_that_are_others_with_the_right_digest(finished_study, tmp_path):
    """Whoever edits both files."""
    import hashlib

    torch.save({"parameters": {}}, tmp_path / "winner.pt")
    text = (finished_study.report / "winner.yaml").read_text()
    old = next(line for line in text.splitlines() if line.startswith("weights_sha256"))
    new = f"weights_sha256: {hashlib.sha256((tmp_path / 'winner.pt').read_bytes()).hexdigest()}"
    (tmp_path / "winner.yaml").write_text(text.replace(old, new))
    assert not sound(lambda: load_model(tmp_path / "winner.yaml"))
