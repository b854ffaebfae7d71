"""DiffusionNFT's objective: reinforcement on the forward process (arXiv 2509.16117)."""

from __future__ import annotations

from torch import Tensor

from spie_robo.errors import ConfigError


def nft_loss(
    clean: Tensor,
    predicted: Tensor,
    old: Tensor,
    reference: Tensor | None,
    advantages: Tensor,
    *,
    beta: float,
    advantage_max: float,
    pull: float = 0.0,
    adaptive: bool = True,
) -> tuple[Tensor, dict[str, float]]:
    """Draw the prediction towards good edits and away from bad ones.

    Symbols: ``x0`` an edit's latents; from it noised, the ``x0`` that three policies predict: ``v``
    the one in training, ``v_o`` the one that made the edits, ``v_ref`` the reference. (The paper
    writes velocities; ``x0`` is affine in them, so that the mixtures below are the same.) ::

        1.  r    = clip(A / (2 A_max) + 1/2, 0, 1)        how good: 0 bad, 1 good
        2.  v+   = beta v + (1 - beta) v_o                the implicit policy of good edits
            v-   = (1 + beta) v_o - beta v                that of bad ones
        3.  loss = ( r w+ ||v+ - x0||^2 + (1 - r) w- ||v- - x0||^2 ) / beta
                   + pull ||v - v_ref||^2                 mean over edits and elements
            w+   = 1 / mean |v+ - x0|, w- likewise, without gradient  (1 if not adaptive)

    Args:
        clean: x0, float (B, C, h, w), as are the next three.
        predicted: v; carries the gradient.
        old: v_o.
        reference: v_ref; None if ``pull`` is 0.
        advantages: float (B,), A.
        beta: > 0.
        advantage_max: A_max > 0.
        pull: 0 or more.
        adaptive: Whether to weigh each error by its size.

    Returns:
        The loss, and metrics: ``good`` (mean r), ``moved`` (root mean square of ``v - v_o``).

    Raises:
        ConfigError: For shapes that do not fit, or a pull without reference.
    """
    _check(clean, predicted, old, advantages)
    if pull > 0 and reference is None:
        raise ConfigError("pull: expected the reference policy's prediction, got none.")
    old = old.detach()
    # 1. optimality in 0..1
    good = (advantages / (2 * advantage_max) + 0.5).clamp(0, 1)
    # 2. implicit policies
    positive = beta * predicted + (1 - beta) * old
    negative = (1 + beta) * old - beta * predicted
    # 3. weighted errors
    errors = good * _error(positive, clean, adaptive)
    errors = errors + (1 - good) * _error(negative, clean, adaptive)
    loss = errors.mean() / beta
    if reference is not None and pull > 0:
        loss = loss + pull * (predicted - reference.detach()).square().mean()
    moved = (predicted.detach() - old).square().mean().sqrt()
    return loss, {"good": float(good.mean()), "moved": float(moved)}


def _check(clean: Tensor, predicted: Tensor, old: Tensor, advantages: Tensor) -> None:
    if not clean.shape == predicted.shape == old.shape or advantages.shape != clean.shape[:1]:
        raise ConfigError(
            "clean, predicted, old: expected one shape (B, C, h, w), advantages (B,); got "
            f"{tuple(clean.shape)}, {tuple(predicted.shape)}, {tuple(old.shape)}, "
            f"{tuple(advantages.shape)}."
        )


def _error(prediction: Tensor, clean: Tensor, adaptive: bool) -> Tensor:
    """(B,): squared error, divided by the mean absolute error."""
    difference = (prediction - clean).flatten(1)
    squared = difference.square().mean(dim=1)
    if not adaptive:
        return squared
    return squared / difference.detach().abs().mean(dim=1).clamp(min=1e-5)
