"""``spie-robo info``: what is in a store, and what is wrong with a data set of any format."""

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
    """A store, s3://BUCKET/KEY too, or with --check any data set."""
    check: bool = False
    """Read all of it and print each fault; faults give exit code 1."""


def _run(options: InfoCommand) -> int:
    """Print what is in a store, or what is wrong with a data set."""
    from spie_robo.data.cloud.local_copy import local_copy
    from spie_robo.data.store.info import describe_store, is_described

    if options.check:
        from spie_robo.data.foreign_check import check_data_set

        with local_copy(options.store, "check") as copy:
            found = check_data_set(copy.path, progress=True)
            print(copy.named(str(found)))
        return 0 if found.ok else 1
    with local_copy(options.store, "info", is_described) as copy:
        print(copy.named(str(describe_store(copy.path, copy.sizes))))
    return 0


COMMAND = Command(InfoCommand, _run, "Say what is in a store; --check any data set.", copy_kept)
