//! Isolation: no tenant sees, touches or infers another's rows; over every RPC of the contract and every table of the
//! live database, so that a new one without its case fails.

mod caches;
pub(crate) mod cases;
mod database;
mod identity;
mod matrix;
mod rpcs;
mod repeats;
mod subjects;
mod signers;
mod tables;
mod forge;
mod tokens;
mod workloads;
mod rotation;
