"""What the command line prints: progress, the table of verdicts, a claim in words."""
