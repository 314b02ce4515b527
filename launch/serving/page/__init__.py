"""The page: a tab for each thing that a run can do."""
