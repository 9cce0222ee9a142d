"""The ledger's tables. One row of `trials` is one configuration of one loss, trained as several members."""

from __future__ import annotations

from sqlalchemy import Column, Float, Integer, MetaData, String, Table, UniqueConstraint

from losstune.search.ledger.values import Json

VERSION = 3
metadata = MetaData()

BACKEND_ON = "backend on "  # keys of meta under which is what was measured, by kind of device
# The study's identity, the schema's version, the data's facts, the generation of the run that may write, and per device
# model the backend that was measured there.
meta = Table("meta", metadata, Column("key", String, primary_key=True), Column("value", Json, nullable=False))

trials = Table(
    "trials", metadata,
    Column("id", String, primary_key=True),
    Column("phase", String, nullable=False),  # search | confirm
    Column("round", Integer, nullable=False),  # confirms are counted: new trials after a confirm start another
    Column("loss", String, nullable=False),
    Column("number", Integer, nullable=False),  # search: the how manieth ask of its loss; confirm: the seed
    Column("parameters", Json, nullable=False),  # the searched ones
    Column("configuration", Json, nullable=False),  # all: the loss's own, learning_rate, weight_decay
    Column("seeds", Json, nullable=False),
    Column("epochs", Integer, nullable=False),  # how many it may train
    Column("state", String, nullable=False),  # running | complete | stopped | failed | cut
    Column("reason", String),
    Column("attempt", Integer, nullable=False, default=1),
    Column("crashes", Integer, nullable=False, default=0),
    Column("lane", String),
    Column("asked", Float, nullable=False),  # seconds since 1970
    Column("ended", Float),
    Column("epoch", Integer, nullable=False, default=0),  # the last one reported
    # Epochs trained in all: also those after a rung until the lane heard the decision, and again after a lane died.
    Column("trained", Integer, nullable=False, default=0, server_default="0"),
    Column("score", Float),  # the best seed-mean of the study's metric on validation, of its reports so far
    Column("best_epoch", Integer),
    Column("slot_seconds", Float, nullable=False, default=0.0),
    Column("checkpoints", Json),  # the last two, the latest first: path from the study's folder, digest, epoch
    Column("joined", Integer, nullable=False, default=0, server_default="0"),  # the lane's epochs when it was asked
    Column("results", Json),  # confirm: metrics on validation and test
    Column("files", Json),  # confirm: the sha256 of the member's predictions and weights
)  # fmt: skip

reports = Table(
    "reports", metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("trial", String, nullable=False, index=True),
    Column("epoch", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("time", Float, nullable=False),
    Column("score", Float),  # the seed-mean at this epoch
    Column("decision", String, nullable=False),  # go | stop | end
    Column("curve", Json, nullable=False),  # per epoch since the last report: epoch, train_loss, scores
    UniqueConstraint("trial", "epoch"),
)  # fmt: skip

choices = Table(
    "choices", metadata,
    Column("round", Integer, primary_key=True),
    Column("loss", String, primary_key=True),
    Column("trial", String),  # null: no configuration of this loss trained to the end
    Column("best_epoch", Integer),
    Column("score", Float),
)  # fmt: skip

lanes = Table(
    "lanes", metadata,
    Column("id", String, primary_key=True),  # a new one for every start of a lane's process
    Column("slot", String, nullable=False),
    Column("started", Float, nullable=False),  # when the process began, before any import
    Column("seen", Float, nullable=False),
    Column("training_seconds", Float, nullable=False, default=0.0),
    Column("device", String),
)  # fmt: skip

events = Table(
    "events", metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("time", Float, nullable=False),
    Column("kind", String, nullable=False),  # run | training | stop | cut | lane | failure | seeds | trials | repair
    Column("text", String, nullable=False),
)  # fmt: skip

# What makes a ledger of the version before one of this version.
UPGRADES = {
    1: (),
    2: ("ALTER TABLE trials ADD COLUMN trained INTEGER DEFAULT 0 NOT NULL", "UPDATE trials SET trained = epoch"),
    3: (
        "ALTER TABLE trials ADD COLUMN joined INTEGER DEFAULT 0 NOT NULL",
        "ALTER TABLE trials ADD COLUMN checkpoints JSON",
        "UPDATE trials SET checkpoints = '[]'",
        "UPDATE trials SET checkpoints = json_array(json_object('path', checkpoint, 'digest', checkpoint_digest, "
        "'epoch', checkpoint_epoch)) WHERE checkpoint IS NOT NULL",
        *(f"ALTER TABLE trials DROP COLUMN {name}" for name in ("checkpoint", "checkpoint_digest", "checkpoint_epoch")),
        "ALTER TABLE trials ADD COLUMN files JSON",
    ),
}
