//! The plan: the DAG of stages, their cache keys as far as records reach, and why each runs.
