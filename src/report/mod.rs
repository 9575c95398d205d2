//! What a person reads after a run: tables and plots, made from recorded numbers.
