"""Post-train editors with SPIE: rollouts, objectives, trainer and checkpoints.

``inputs -> roll_out() -> Rollout -> feedback -> Objective -> one optimiser step``, once an epoch.
"""
