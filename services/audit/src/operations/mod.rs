//! What one can do with the log and its alerts, a verb a file.

mod list_records;
mod watch_records;
mod list_alerts;
mod acknowledge_alert;
mod list_tenant_records;
mod list_tenant_alerts;
mod export_records;

pub(crate) use acknowledge_alert::acknowledge_alert;
pub(crate) use export_records::export_records;
pub(crate) use list_alerts::list_alerts;
pub(crate) use list_records::list_records;
pub(crate) use list_tenant_alerts::list_tenant_alerts;
pub(crate) use list_tenant_records::list_tenant_records;
pub(crate) use watch_records::{end_of_log, watch_records};
