//! The suite: what the whole system promises, shown on real servers; one binary, since each links everything.

mod attest;
mod audit_trail;
mod consultants;
mod deploy;
mod events;
mod isolation;
mod pool;
mod projects;
mod tidy;
