"""Frozen image features that guard, feedback, evaluation and pretraining share."""
