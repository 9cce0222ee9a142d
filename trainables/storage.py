"""Where the files of a study lie: a folder of this machine or a network disk, or an object store, by the same names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qsl, urlsplit

from losstune.spaces import InputError
from losstune.trainables.disk import DiskError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

STORES = {"s3": "s3://BUCKET/FOLDER", "gs": "gs://BUCKET/FOLDER"}
OPTIONS = ("endpoint_override", "region", "scheme")  # of a store that speaks S3 elsewhere than at Amazon
# Of a request that fails for a moment, with growing pauses; so many seconds in all. AWS_MAX_ATTEMPTS is other attempts.
ATTEMPTS, PATIENCE = 10, 120.0


@dataclass(frozen=True)
class Stored:
    """A file or a folder of an object store, by as much of pathlib.Path as is needed here.

    store: its address, "s3://BUCKET?OPTIONS"; path: from the bucket's name on. Raises FileNotFoundError as files do,
    and DiskError where the store does not answer, or refuses.
    """

    store: str
    path: str

    def __truediv__(self, name: str | os.PathLike) -> Stored:
        return Stored(self.store, str(PurePosixPath(self.path) / os.fspath(name)))

    def __str__(self) -> str:
        return f"{urlsplit(self.store).scheme}://{self.path}"

    @property
    def name(self) -> str:
        return PurePosixPath(self.path).name

    def read_bytes(self) -> bytes:
        with self._asked() as client, client.open_input_file(self.path) as file:
            return file.read()

    def write_bytes(self, content: bytes) -> None:
        """A store shows a file when it is whole, or not at all."""
        with self._asked() as client, client.open_output_stream(self.path) as file:
            file.write(content)

    def exists(self) -> bool:
        """Whether there is a file, or files below a folder of that name, or such a bucket."""
        from pyarrow.fs import FileType

        with self._asked() as client:
            return client.get_file_info(self.path).type != FileType.NotFound

    def is_file(self) -> bool:
        with self._asked() as client:
            return client.get_file_info(self.path).is_file

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            with self._asked() as client:
                client.delete_file(self.path)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def drop(self) -> None:
        """Remove a folder; of one whose last file is removed the client leaves an empty object of its name."""
        with contextlib.suppress(FileNotFoundError), self._asked() as client:
            client.delete_dir(self.path)

    def files(self) -> Iterator[tuple[Stored, int]]:
        """The files below this folder, each with its bytes."""
        from pyarrow.fs import FileSelector

        selector = FileSelector(self.path, allow_not_found=True, recursive=True)
        with self._asked() as client:
            listed = client.get_file_info(selector)
        yield from ((Stored(self.store, found.path), found.size) for found in listed if found.is_file)

    @contextlib.contextmanager
    def _asked(self) -> Iterator[FileSystem]:
        try:
            yield _file_system(self.store)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise DiskError(error.errno, said_by(error), str(self)) from error
        except ValueError as error:  # of what the client does not understand
            raise DiskError(None, " ".join(str(error).split())[:300], str(self)) from error


Place = Path | Stored


def files_in(place: Place) -> Iterator[tuple[Place, int]]:
    """The files below a folder, each with its bytes; none where there is no such folder."""
    if isinstance(place, Stored):
        yield from place.files()
        return
    for at, _, names in os.walk(place):
        for name in names:
            path = Path(at, name)
            yield path, size_of(path)


def size_of(path: str | Path) -> int:
    """The bytes of a file; 0 of one that is gone by now: a running study removes checkpoints."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def place_of(where: str | os.PathLike) -> Place:
    """A folder, or a place in an object store, by its name.

    InputError for a kind of store that is not known, one without a bucket, one with a secret in its name, which
    everybody would see who looks at the list of processes, and options that are not known.
    """
    where = os.fspath(where)
    if "://" not in where:
        return Path(where)
    parts = urlsplit(where)
    _check(parts)
    path = str(PurePosixPath(parts.netloc) / parts.path.strip("/"))
    query = f"?{parts.query}" if parts.query else ""
    return Stored(f"{parts.scheme}://{parts.netloc}{query}", path)


def _check(parts: SplitResult) -> None:
    # What is wrong is not repeated: it may hold a secret.
    if "@" in parts.netloc or "@" in parts.query:
        raise InputError("--storage: a secret in it would be seen in the list of processes, and kept; allowed: the "
                         "environment (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS ...), or the machine's role"
                         )  # fmt: skip
    if parts.scheme not in STORES or not parts.netloc:
        raise InputError(f"--storage: is no place; allowed: a folder, {', '.join(STORES.values())}")
    options = parse_qsl(parts.query, keep_blank_values=True)
    odd = [key for key, _ in options if key not in OPTIONS]
    if odd or (parts.query and not options) or parts.fragment:
        raise InputError(f"--storage: {', '.join(odd) or 'what follows'} is no option of it; allowed: "
                         f"{', '.join(OPTIONS)}")  # fmt: skip
    if dict(options).get("scheme", "https") not in ("http", "https"):
        raise InputError("--storage: scheme is none; allowed: http, https")


@cache
def _file_system(store: str) -> FileSystem:
    """The client of a store, one for each process. Credentials are those of the environment, or the machine's role."""
    from pyarrow import fs

    parts = urlsplit(store)
    options = dict(parse_qsl(parts.query))
    if parts.scheme == "gs":
        own = {key: options[key] for key in options if key != "region"}
        return fs.GcsFileSystem(**own, retry_time_limit=timedelta(seconds=PATIENCE))
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        options.setdefault("endpoint_override", endpoint)
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region:
        options.setdefault("region", region)
    if not {"region", "endpoint_override"} & set(options):
        options["region"] = fs.resolve_s3_region(parts.netloc)
    attempts = int(os.environ.get("AWS_MAX_ATTEMPTS") or ATTEMPTS)
    return fs.S3FileSystem(**options, retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=attempts))


def said_by(error: OSError) -> str:
    """What a store says of a failure, in a line."""
    return " ".join(str(error.strerror or error).split())[:300]
