"""What is given: which files there are, the parts that work is shared out in, and the samples that parts hold."""
