"""What the benchmark measures, how it survives a kernel that does not, and how results are judged and drawn."""
