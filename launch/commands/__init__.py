"""One module per command of `triptych`."""
