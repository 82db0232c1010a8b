"""What the library promises of speed and memory, as ratios measured in one run."""
