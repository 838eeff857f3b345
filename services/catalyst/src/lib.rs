//! Catalyst as a program: the services together, the embedded servers, and the command line.
//!
//! Start reading at [`cli`]: each command is a module. [`deployment`] is what `up` and the tests share.

pub mod cli;
pub mod client;
pub mod deployment;
pub mod doctor;
pub mod import;
pub mod keys;
mod reach;
mod rebuild;
mod reconcile;
pub mod serve;
mod servers;
pub mod services;
pub mod stack;
pub mod trail;
pub mod up;
