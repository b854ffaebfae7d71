"""The commands by the words that call them."""

from __future__ import annotations

from spie_robo.commands import (
    convert,
    demo,
    doctor,
    evaluate,
    evaluate_proxy,
    info,
    policy_evaluate,
    policy_train,
    pretrain,
    record,
    report,
    train,
    verify,
)
from spie_robo.commands.base import Command

COMMANDS: dict[str, Command] = {
    "demo": demo.COMMAND,
    "record": record.COMMAND,
    "convert": convert.COMMAND,
    "train": train.COMMAND,
    "evaluate": evaluate.COMMAND,
    "evaluate-proxy": evaluate_proxy.COMMAND,
    "policy train": policy_train.COMMAND,
    "policy evaluate": policy_evaluate.COMMAND,
    "info": info.COMMAND,
    "verify": verify.COMMAND,
    "report": report.COMMAND,
    "doctor": doctor.COMMAND,
    "pretrain": pretrain.COMMAND,
}
"""Every command by the words that call it, in the order of the help."""
