"""`rexecutor demo`: real jobs on a real service, failures and a crash among them, checked at the end."""
