"""Where a run's subjects come from: folders of real data, or an embedded cohort that is made first."""
