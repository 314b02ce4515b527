"""What a run does about a loss or gradient that is not finite, or far out of line."""
