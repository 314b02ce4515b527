"""The analytic model of a training step: operations, bytes and messages, and the seconds that they take."""
