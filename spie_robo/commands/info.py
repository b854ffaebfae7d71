"""``spie-robo info``: what is in a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from spie_robo.commands.base import Command, copy_kept
from spie_robo.settings.field_types import Store


@final
@dataclass(frozen=True)
class InfoCommand:
    """Settings of ``spie-robo info``."""

    store: Store
    """The store to describe; s3://BUCKET/KEY too."""


def _run(options: InfoCommand) -> int:
    """Say what is in a store."""
    from spie_robo.data.cloud.local_copy import local_copy
    from spie_robo.data.store.info import describe_store, is_described

    with local_copy(options.store, "info", is_described) as copy:
        print(copy.named(str(describe_store(copy.path, copy.sizes))))
    return 0


COMMAND = Command(InfoCommand, _run, "Say what is in a store.", copy_kept)
