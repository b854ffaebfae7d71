"""Policies that learn from episode stores: their place in the package."""
