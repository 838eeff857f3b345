//! What every Catalyst service is made with. It knows no business noun.
//!
//! Read in this order: who calls ([`ctx`], [`permission`], [`gate`]), the door to the rows ([`db`], [`once`]),
//! events out ([`events`], [`outbox`], [`relay`]) and in ([`subscriber`]), what is told of failures ([`error`],
//! [`security`]), and the process around it ([`host`]).

pub mod ids;
pub mod ctx;
pub mod permission;
pub mod kit;
mod gate;
mod token;
mod jwks;
mod tls;
pub mod wire;
pub mod workload;
pub mod directory;
mod door;
pub mod plan;

pub mod db;
pub mod session;
mod pool;
mod room;
pub mod cells;
mod turns;
pub mod cache;
pub mod once;
pub mod page;
pub mod fields;
pub mod change;
pub mod money;
pub mod aggregate;

pub mod events;
pub mod outbox;
pub mod again;
mod pressure;
mod relay;
pub mod subscriber;
mod broker_watch;
pub mod bus;
pub mod ledger;
pub mod topology;

pub mod error;
pub mod security;

pub mod host;
mod start;
pub mod server;
mod arrival;
mod charged;
mod class;
mod limits;
pub mod shares;
mod abuse;
mod protocol;
mod connections;
mod frames;
mod admin;
mod readiness;
pub mod migrate;
pub mod attest;
pub mod isolation;
pub mod settings;
pub mod tasks;
mod failpoint;
pub mod telemetry;
mod usage;

pub use ctx::Ctx;
pub use db::{Db, Tx};
pub use error::Error;
pub use ids::{Id, TenantId};
pub use jwks::key_ids;
pub use kit::Kit;
