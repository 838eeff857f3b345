//! Isolation: no tenant sees, touches or infers another's rows; over every RPC of the contract and every table of the
//! live database, so that a new one without its case fails.

mod cases;
mod identity;
mod rpcs;
mod tables;
mod tokens;
