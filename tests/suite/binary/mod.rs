//! The program as its users run it: started as a process, stopped by signals, spoken to by commands.

mod doctor;
mod alert_rules;
mod import;
mod metrics;
pub(crate) mod own_database;
mod permissions;
pub(crate) mod program;
mod refusals;
mod serve;
mod top;
mod trace;
mod up;
mod verify;
