"""Read YAML files and command lines into frozen records that check themselves."""
