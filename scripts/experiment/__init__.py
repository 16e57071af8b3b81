"""The paper's comparison as a grid of bundle runs: expanded, run, collected, reported."""
