"""The commands of `rexecutor`, each loaded when it runs."""
