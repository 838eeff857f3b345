//! What every Catalyst service is made with. It knows no business noun.
//!
//! Read in this order: who calls ([`ctx`], [`permission`], [`gate`]), the door to the rows ([`db`], [`once`]),
//! events out ([`events`], [`outbox`], [`relay`]) and in ([`subscriber`]), what is told of failures ([`error`],
//! [`security`]), and the process around it ([`host`]).

pub mod ctx;
pub mod directory;
mod gate;
pub mod ids;
pub mod kit;
pub mod permission;
mod token;
pub mod workload;

pub mod change;
pub mod db;
pub mod fields;
pub mod money;
pub mod once;
pub mod page;
mod pool;

pub mod bus;
pub mod events;
pub mod outbox;
mod relay;
pub mod subscriber;
pub mod topology;

pub mod error;
pub mod security;

mod admin;
pub mod attest;
pub mod host;
pub mod migrate;
pub mod server;
pub mod settings;
mod start;
pub mod tasks;
pub mod telemetry;

pub use ctx::Ctx;
pub use db::{Db, Tx};
pub use error::Error;
pub use ids::{Id, TenantId};
pub use kit::Kit;
