"""``spie-robo doctor``: ``facts of this machine -> checks -> table, JSON, exit code``."""
