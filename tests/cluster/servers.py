"""A PostgreSQL server, an object store that speaks S3, and MLflow's server with a login, each on loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import pytest

GUARD = 120  # seconds after which a server does not come up
PASSWORD, USER = "a password of the tests", "losstune"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Postgres:
    """PostgreSQL as the system's packages bring it: a server of its own, on loopback, with a password."""

    def __init__(self):
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
        self.bin, self.port = found[-1].parent, free_port()
        # As root it refuses to run; its user must get through the folders above its own, which pytest's are closed to.
        self.home = Path(tempfile.mkdtemp(prefix="losstune-postgres-"))
        self.data = self.home / "data"
        if os.geteuid() == 0:
            shutil.chown(self.home, "postgres")
        self.environment = {"PGPASSWORD": PASSWORD}
        (self.home / "password").write_text(PASSWORD)
        (self.home / "password").chmod(0o644)
        self._run("initdb", "-D", self.data, "-U", USER, "-A", "scram-sha-256", f"--pwfile={self.home / 'password'}")
        self.start()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        self._run("pg_ctl", "-D", self.data, "-w", "-l", self.home / "log", "-o",
                  f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.home} -c fsync=off",
                  "start")  # fmt: skip

    def stop(self) -> None:
        """At once, whoever is connected."""
        self._run("pg_ctl", "-D", self.data, "-w", "-m", "immediate", "stop")

    def query(self, statement: str, database: str = "postgres") -> list[tuple]:
        import psycopg

        with psycopg.connect(self.url(database), password=PASSWORD, autocommit=True) as connection:
            found = connection.execute(statement)
            return found.fetchall() if found.description else []

    def end(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(self.home, ignore_errors=True)

    def _run(self, program: str, *arguments: object) -> None:
        as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        subprocess.run([*as_user, str(self.bin / program), *map(str, arguments)], check=True, cwd=self.home,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       timeout=GUARD)  # fmt: skip


class Process:
    """A server that is a process of its own, and answers at a path when it is ready."""

    def __init__(self, command: list[str], port: int, path: str, log: Path, **environment: str):
        self.port = port
        with open(log, "a") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL,
                                            env={**os.environ, **environment}, start_new_session=True)  # fmt: skip
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        end = time.monotonic() + GUARD
        while True:
            with contextlib.suppress(OSError):
                opener.open(f"http://127.0.0.1:{port}{path}", timeout=5).read()
                return
            assert self.process.poll() is None and time.monotonic() < end, log.read_text()[-2000:]
            time.sleep(0.1)

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(GUARD)


class S3(Process):
    """moto's server, with an empty bucket "mine"."""

    def __init__(self, folder: Path):
        pytest.importorskip("moto.server", reason="moto is not installed: pip install losstune[cluster-test]")
        port = free_port()
        super().__init__([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port,
                         "/moto-api/", folder / "s3.log")  # fmt: skip
        self.environment = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "tests",
                            "AWS_SECRET_ACCESS_KEY": "a secret of the tests", "AWS_DEFAULT_REGION": "us-east-1",
                            "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip
        self.client().create_bucket(Bucket="mine")

    def client(self):
        import boto3

        return boto3.client("s3", endpoint_url=self.environment["AWS_ENDPOINT_URL"], region_name="us-east-1",
                            aws_access_key_id="tests", aws_secret_access_key="a secret of the tests")  # fmt: skip

    def names(self, prefix: str = "", bucket: str = "mine") -> list[str]:
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        found = [item["Key"] for page in pages for item in page.get("Contents", ())]
        return [name for name in found if not name.endswith("/")]  # what stands for a folder is no file


class Mlflow(Process):
    """MLflow's server as a team has it: runs in PostgreSQL, artifacts in S3, and a login."""

    def __init__(self, folder: Path, postgres: Postgres, s3: S3):
        pytest.importorskip("flask_wtf", reason="MLflow's login is not installed: pip install losstune[cluster-test]")
        postgres.query("CREATE DATABASE mlflow")
        port, login = free_port(), folder / "auth.ini"
        login.write_text(f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = sqlite:///{folder}/auth.db\n"
                         f"admin_username = {USER}\nadmin_password = {PASSWORD}\n"
                         "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n")  # fmt: skip
        store = postgres.url("mlflow").replace("postgresql://", "postgresql+psycopg://")
        super().__init__(
            [sys.executable, "-m", "mlflow", "server", "--app-name", "basic-auth", "--host", "127.0.0.1", "--port",
             str(port), "--backend-store-uri", store, "--artifacts-destination", "s3://mine/mlflow", "--workers", "1",
             "--allowed-hosts", f"127.0.0.1:{port}"],
            port, "/health", folder / "mlflow.log", **postgres.environment, **s3.environment,
            MLFLOW_AUTH_CONFIG_PATH=str(login), MLFLOW_FLASK_SERVER_SECRET_KEY="of the tests",
        )  # fmt: skip
        self.environment = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "MLFLOW_TRACKING_USERNAME": USER,
                            "MLFLOW_TRACKING_PASSWORD": PASSWORD}  # fmt: skip
