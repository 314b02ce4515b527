"""What each command of `triptych` does, in the groups of command_line."""
