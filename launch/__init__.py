"""The command line: parses, wires the floors below together, prints. The only floor that reads the environment."""
