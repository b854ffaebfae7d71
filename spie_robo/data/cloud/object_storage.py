"""Copy data sets from and to object storage, ``s3://BUCKET/KEY``.

``objects -> staging folder -> conversion on the local disk -> staging folder -> objects``

A store is made durable by ``fsync`` and ``rename``, which object storage lacks. A data set is
therefore copied here, converted on the local disk, and sent when it is complete; the object that
makes it readable is sent last, so that a reader finds all of it or none. After an interruption the
same command copies only what is missing. This needs disk space for the input and the output, once
each.

The staging folder is ``SPIE_ROBO_STAGING``, or ``~/.cache/spie_robo/staging``. Credentials,
region and endpoint come from the environment (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ...).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any, final

from filelock import FileLock, Timeout
from tqdm import tqdm

from spie_robo.errors import MissingExtraError, StoreError, StoreLockedError
from spie_robo.files.atomic import atomic_write, write_failure
from spie_robo.settings.locations import Location

PART_BYTES = 16 * 1024 * 1024
"""Larger files are sent in parts of this size."""

LAST = (".zattrs", ".zgroup", "zarr.json", "meta/info.json", "data/metadata.json", "metadata.json")
"""Objects that make a data set readable, by format: they are sent last, in this order."""

_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID")
_MANIFEST = "fetched.json"
_RETRIES = 5


@contextmanager
def staging(*identity: object) -> Iterator[Path]:
    """Provide the local folder for ``identity`` and lock it.

    Raises:
        StoreLockedError: If another process uses the folder.
        StoreError: If the folder cannot be made.
    """
    home = Path(os.environ.get("SPIE_ROBO_STAGING", Path.home() / ".cache/spie_robo/staging"))
    folder = home / hashlib.sha256(repr(identity).encode()).hexdigest()[:20]
    lock = FileLock(f"{folder}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StoreLockedError(
            f"{folder}: another process copies or converts the same. Wait until it has finished."
        ) from error
    except OSError as error:
        raise write_failure(folder, error) from error
    try:
        yield folder
    finally:
        lock.release()


def sizes(source: Location) -> dict[str, int]:
    """Return the size of each object by its name below the key, bytes.

    The name of a data set that is a single object is empty.

    Raises:
        StoreError: If there is no such object, or the objects cannot be listed.
        MissingExtraError: If obstore is not installed.
    """
    with _reporting_errors(source, "read"):
        return {name: int(entry["size"]) for name, entry in _found(_Bucket(source)).items()}


def fetch(
    source: Location,
    folder: Path,
    wanted: Callable[[str], bool] | None = None,
    *,
    progress: bool = True,
) -> Path:
    """Copy a data set here, without the files that are already here and unchanged.

    Args:
        source: Address of the data set.
        folder: A staging folder.
        wanted: Whether to copy an object, by its name below the key; None copies all.
        progress: Show a progress bar.

    Returns:
        Path of the copy in ``folder``, under its own name.

    Raises:
        StoreError: If there is no data set, it cannot be read, or a file arrives damaged.
        MissingExtraError: If obstore is not installed.
    """
    with _reporting_errors(source, "read"):
        # List the objects, and delete local files that are not among them.
        bucket = _Bucket(source)
        found = _found(bucket)
        objects = {name: found[name] for name in found if wanted is None or wanted(name)}
        root = folder / PurePosixPath(source.key).name
        manifest = folder / _MANIFEST
        known = _manifest(manifest)
        _remove_others(root, objects)
        # Copy what is new or changed, and note each copy in the manifest.
        total = sum(int(entry["size"]) for entry in objects.values())
        with tqdm(
            total=total, desc="fetch", unit="B", unit_scale=True, disable=not progress
        ) as bar:
            try:
                for name, entry in objects.items():
                    target = _inside(root, name)
                    label = [entry["size"], entry["e_tag"]]
                    if known.get(name) != label or not target.is_file():
                        known.pop(name, None)
                        bucket.download(entry, target)
                        known[name] = label
                    bar.update(int(entry["size"]))
            finally:
                atomic_write(manifest, json.dumps(known).encode())
    return root


def require_absent(target: Location) -> None:
    """Refuse a target that holds a whole data set or whose bucket does not exist.

    Raises:
        StoreError: If the target cannot be used.
        MissingExtraError: If obstore is not installed.
    """
    with _reporting_errors(target, "write"):
        there = _Bucket(target).objects()
    if any(name in there for name in ("", *LAST)):
        raise StoreError(f"{target} already exists. Choose another key, or delete it.")


def send(root: Path, target: Location, *, progress: bool = True) -> tuple[int, int]:
    """Send a data set and check every object; objects that are already there are not sent again.

    Args:
        root: Folder or file of the data set.
        target: Address to send to.
        progress: Show a progress bar.

    Returns:
        Number of objects, and their size in bytes.

    Raises:
        StoreError: If other data is there, the storage fails, or an object does not read back as
            it was sent.
    """
    files = _files(root)
    with _reporting_errors(target, "write"):
        bucket = _Bucket(target)
        there = bucket.objects()
        foreign = sorted(set(there) - set(files))
        if foreign:
            raise StoreError(
                f"{target}: something else is there ({foreign[0] or 'an object'}). Choose another "
                "key, or delete it."
            )
        whole = any(name in there for name in ("", *LAST))
        total = sum(file.stat().st_size for file in files.values())
        with tqdm(total=total, desc="send", unit="B", unit_scale=True, disable=not progress) as bar:
            for name, file in files.items():
                entry = there.get(name)
                if entry is None or not bucket.same(entry, file):
                    if whole and entry is not None:
                        raise StoreError(f"{target} holds other data. Choose another key.")
                    bucket.upload(file, name)
                bar.update(file.stat().st_size)
    return len(files), total


@final
class _Bucket:
    """The objects of one location."""

    def __init__(self, location: Location) -> None:
        self._obstore = _import_obstore()
        self.at = location
        endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
        self._store = self._obstore.store.S3Store(
            location.bucket,
            client_options={"allow_http": endpoint.startswith("http://")},
            retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=60)},
        )

    def objects(self) -> dict[str, Mapping[str, Any]]:
        """Return each object by its name below the key; a single object has an empty name."""
        prefix = self.at.key + "/"
        found: dict[str, Mapping[str, Any]] = {}
        for batch in self._obstore.list(self._store, prefix=self.at.key):
            found |= {entry["path"].removeprefix(prefix): entry for entry in batch}
        with suppress(FileNotFoundError):
            if not found:
                found[""] = self._obstore.head(self._store, self.at.key)
        return found

    def download(self, entry: Mapping[str, Any], target: Path) -> None:
        partial = target.with_name(f".{target.name}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                for piece in self._obstore.get(self._store, entry["path"]).stream():
                    file.write(piece)
            size = partial.stat().st_size
            plain = re.fullmatch(r'"?[0-9a-f]{32}"?', entry["e_tag"] or "")
            if size != entry["size"] or (plain and not self._tagged(entry, partial)):
                # With the server's encryption the tag is no MD5 of the content: compare the bytes.
                if size != entry["size"] or not self._reads_back(entry["path"], partial):
                    raise StoreError(
                        f"s3://{self.at.bucket}/{entry['path']}: it did not arrive whole "
                        f"({size} of {entry['size']} bytes). Run the same command again."
                    )
            os.replace(partial, target)
        except self._obstore.exceptions.BaseError:  # some of these are OSErrors too
            raise
        except OSError as error:
            raise write_failure(target, error) from error
        finally:
            partial.unlink(missing_ok=True)

    def upload(self, file: Path, name: str) -> None:
        key = f"{self.at.key}/{name}" if name else self.at.key
        multipart = file.stat().st_size > PART_BYTES
        self._obstore.put(self._store, key, file, use_multipart=multipart, chunk_size=PART_BYTES)
        if not self.same(self._obstore.head(self._store, key), file):
            raise StoreError(
                f"s3://{self.at.bucket}/{key}: it does not read back as it was sent. Run the same "
                "command again; if it happens again, check the storage."
            )

    def same(self, entry: Mapping[str, Any], file: Path) -> bool:
        """Return whether an object holds the bytes of a file, by its ETag or else by reading it."""
        if entry["size"] != file.stat().st_size:
            return False
        return self._tagged(entry, file) or self._reads_back(entry["path"], file)

    def _tagged(self, entry: Mapping[str, Any], file: Path) -> bool:
        return (entry["e_tag"] or "").strip('"') == _etag(file)

    def _reads_back(self, key: str, file: Path) -> bool:
        with file.open("rb") as stream:
            pieces = self._obstore.get(self._store, key).stream()
            return all(stream.read(len(piece)) == bytes(piece) for piece in pieces)


def _found(bucket: _Bucket) -> dict[str, Mapping[str, Any]]:
    """Return the objects of a location, and refuse a location without any."""
    objects = bucket.objects()
    if not objects:
        raise StoreError(
            f"{bucket.at}: expected a data set, found no object of that name or below it in "
            f"bucket {bucket.at.bucket!r}. Check the key."
        )
    return objects


def _etag(file: Path) -> str:
    """Return the ETag that S3 gives: MD5 of the bytes, or of the parts' MD5s with their number."""
    parts = []
    with file.open("rb") as stream:
        while part := stream.read(PART_BYTES):
            parts.append(hashlib.md5(part, usedforsecurity=False))
    if len(parts) > 1:
        joined = b"".join(part.digest() for part in parts)
        return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(parts)}"
    return (parts[0] if parts else hashlib.md5(usedforsecurity=False)).hexdigest()


def _files(root: Path) -> dict[str, Path]:
    """Return the files to send by name, in the order of sending."""
    if root.is_file():
        return {"": root}
    found = {str(f.relative_to(root)): f for f in sorted(root.rglob("*")) if f.is_file()}
    last = [name for name in LAST if name in found]
    return {name: found[name] for name in [*(n for n in found if n not in last), *last]}


def _inside(root: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if ".." in parts or name.startswith("/"):
        raise StoreError(f"Object {name!r} leads out of its data set. It was not copied.")
    return root.joinpath(*parts)


def _remove_others(root: Path, objects: Iterable[str]) -> None:
    """Delete local files that are no longer in the bucket."""
    wanted = {_inside(root, name) for name in objects}
    if root.is_file() and root not in wanted:
        root.unlink()
    elif root.is_dir() and root in wanted:
        shutil.rmtree(root)
    for file in list(root.rglob("*")):
        if file.is_file() and file not in wanted:
            file.unlink()


def _manifest(file: Path) -> dict[str, Any]:
    try:
        known = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _import_obstore() -> Any:
    try:
        import obstore
        import obstore.store
    except ImportError as error:
        raise MissingExtraError(
            "s3:// needs the package obstore, which is not installed. Install it: "
            "pip install 'spie-robo[cloud]'"
        ) from error
    return obstore


@contextmanager
def _reporting_errors(at: Location, verb: str) -> Iterator[None]:
    """Raise the storage's errors as StoreError with bucket and key and without secrets."""
    exceptions = _import_obstore().exceptions
    try:
        yield
    except (exceptions.BaseError, FileNotFoundError, PermissionError) as error:
        reason = re.sub(r"\s+", " ", str(error))
        for name in _SECRETS:
            if os.environ.get(name):
                reason = reason.replace(os.environ[name], f"<{name}>")
        if "NoSuchBucket" in reason or isinstance(error, FileNotFoundError):
            raise StoreError(
                f"{at}: there is no bucket {at.bucket!r}, or no such key in it. Check the name, "
                "AWS_REGION and AWS_ENDPOINT_URL."
            ) from None
        raise StoreError(
            f"Cannot {verb} {at} (bucket {at.bucket!r}, key {at.key!r}): {reason[:200]}. Check "
            "the AWS_* variables of the environment (keys, region, AWS_ENDPOINT_URL) and the "
            "rights on the bucket, then run the same command again: what is copied stays."
        ) from None
