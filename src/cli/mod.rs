//! The command line: verbs, the terminal, and exit codes. The only place that prints.
