"""Real, small data made on the machine: English prose, handwritten digits with captions, spoken digits."""
