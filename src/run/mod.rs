//! Running a plan: the executor, the worker process and its protocol, and the events that both report.
