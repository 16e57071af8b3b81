"""Pages that a person opens: the report, the results that are committed, the bundles' parts, MLflow's comparison."""
