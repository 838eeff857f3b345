//! The suite: what the whole system promises, shown on real servers; one binary, since each links everything.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod attest;
mod audit;
mod audit_trail;
mod backlog;
mod binary;
mod bus;
mod cache;
mod cells;
mod consultants;
mod crowd;
mod deploy;
mod durability;
mod events;
mod isolation;
mod limits;
mod plans;
mod pool;
mod projects;
mod readiness;
mod reconcile;
mod round_trips;
mod tidy;
mod time_entries;
mod transport;
mod wires;
