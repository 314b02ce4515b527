"""Many runs of one name: the points of a grid of settings, trained in processes of their own, and what came of them.

`grid` says which points there are, `folder` what lies where, `processes` trains them; `results` reads their logs,
`tables` and `figures` show them.
"""
