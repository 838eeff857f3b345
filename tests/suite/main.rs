//! The suite: what the whole system promises, shown on real servers; one binary, since each links everything.

mod deploy;
mod tidy;
