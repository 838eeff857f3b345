//! time-entries.
