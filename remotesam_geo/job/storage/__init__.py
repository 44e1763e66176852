"""What a job keeps on disk: the plan, the ledger, the maps and the outlined blocks."""
