"""Settings: YAML files and command lines become frozen records that check themselves."""
