"""Servers on loopback, whose secrets the environment holds as long as they are there."""

import contextlib
import os
from unittest.mock import patch

import pytest
from servers import S3, Postgres


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    pytest.importorskip("psycopg", reason="PostgreSQL's client is not installed: pip install losstune[postgresql]")
    with contextlib.ExitStack() as stack:
        server = Postgres()
        stack.callback(server.end)
        stack.enter_context(patch.dict(os.environ, server.environment))
        yield server


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        server = S3(tmp_path_factory.mktemp("s3"))
        stack.callback(server.end)
        stack.enter_context(patch.dict(os.environ, server.environment))
        yield server
