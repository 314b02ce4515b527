"""The page that a run leaves behind: report.html for people, report.json for programs.

`data.ReportData` is what a report shows, `history.training_history` makes its curves from a run's log,
`write.write_report` writes both files. Nothing is imported here: the terminal's display shares `numbers` and must start
fast.
"""
