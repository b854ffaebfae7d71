"""SPIE post-training: rollouts, objectives, trainer, checkpoints.

``inputs -> roll_out() -> Rollout -> feedback -> Objective -> one optimiser step``, once an epoch.
"""
