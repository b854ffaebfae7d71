"""The commands of ``spie-robo``: one file a verb, each a settings record and what it does.

A command hands its record to the package that does the work, prints one line about the result and
the next command to run. Nothing heavy is imported before it is called.
"""
