"""``spie-robo verify``: checks every committed byte of a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from spie_robo.commands.base import Command, copy_kept
from spie_robo.settings.field_types import Store


@final
@dataclass(frozen=True)
class VerifyCommand:
    """Settings of ``spie-robo verify``."""

    store: Store
    """The store to check; s3://BUCKET/KEY too."""


def _run(options: VerifyCommand) -> int:
    """Check every committed byte of a store; damage gives exit code 1."""
    from spie_robo.data import verify_store
    from spie_robo.data.cloud.local_copy import local_copy

    with local_copy(options.store, "verify") as copy:
        found = verify_store(copy.path, progress=True)
        print(copy.named(str(found)))
    return 0 if found.ok else 1


COMMAND = Command(VerifyCommand, _run, "Check every byte of a store.", copy_kept)
