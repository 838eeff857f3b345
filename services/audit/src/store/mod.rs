//! Rows of the audit schema. Every statement names the tenant, but those of the operator's role; decides nothing.

pub(crate) mod alerts;
pub(crate) mod attempts;
pub(crate) mod export;
pub(crate) mod heads;
pub(crate) mod counters;
pub(crate) mod deliveries;
pub(crate) mod floods;
pub mod history;
pub(crate) mod log;
pub(crate) mod records;
