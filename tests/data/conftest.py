"""Object storage on this machine, for the tests of what reads and writes it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="package")
def server() -> Iterator[str]:
    """The address of an S3-compatible server."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def staged(tmp_path: Path) -> Path:
    """Where copies of what is in object storage go."""
    return tmp_path / "staging"


@pytest.fixture
def secret() -> str:
    """A key that no message may show."""
    return "a-secret-that-nobody-may-see"


@pytest.fixture
def bucket(
    server: str, monkeypatch: pytest.MonkeyPatch, staged: Path, secret: str, tmp_path: Path
) -> str:
    """An empty bucket; its name."""
    import boto3

    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
        "SPIE_ROBO_STAGING": str(staged),
    }.items():
        monkeypatch.setenv(name, value)
    name = "lab-" + hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=name)
    return name
