//! suite

mod deploy;
mod tidy;
