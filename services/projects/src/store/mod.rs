//! Rows. Every statement names the tenant; decides nothing.

pub(crate) mod client;
pub(crate) mod project;

pub(crate) mod assignment;
pub(crate) mod consultant;
