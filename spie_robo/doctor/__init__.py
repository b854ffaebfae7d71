"""Diagnose a machine: ``facts of this machine -> checks -> table, JSON, exit code``."""
