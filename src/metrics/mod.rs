//! Two-sample metrics, each with the definition that it follows and the reference that it is tested against.
