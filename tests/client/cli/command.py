"""The command as a process, with what `make install` put there."""

import sys

COMMAND = [sys.executable, "-c", "from rexecutor_client.cli import main; main()"]
