//! Who may read the log and settle alerts.

use kit::permission::Role::{Admin, Auditor};
use kit::permission::{Permission, Rpc};

/// List records.
pub const LIST_RECORDS: Permission = Permission::roles("audit.list_records", &[Admin, Auditor]);
/// Follow the log.
pub const WATCH_RECORDS: Permission = Permission::roles("audit.watch_records", &[Admin, Auditor]);
/// List alerts.
pub const LIST_ALERTS: Permission = Permission::roles("audit.list_alerts", &[Admin, Auditor]);
/// Settle an alert.
pub const ACKNOWLEDGE_ALERT: Permission =
    Permission::roles("audit.acknowledge_alert", &[Admin, Auditor]);
/// List records of all tenants.
pub const LIST_TENANT_RECORDS: Permission = Permission::operator("audit.list_tenant_records");
/// Export whole logs.
pub const EXPORT_RECORDS: Permission = Permission::operator("audit.export_records");
/// List alerts of all tenants.
pub const LIST_TENANT_ALERTS: Permission = Permission::operator("audit.list_tenant_alerts");
/// Settle an alert of a tenant.
pub const ACKNOWLEDGE_TENANT_ALERT: Permission =
    Permission::operator("audit.acknowledge_tenant_alert");

/// The permission of each RPC.
pub const TABLE: &[Rpc] = &[
    Rpc::new("catalyst.audit.v1.AuditService/ListRecords", LIST_RECORDS),
    Rpc::new("catalyst.audit.v1.AuditService/WatchRecords", WATCH_RECORDS),
    Rpc::new("catalyst.audit.v1.AuditService/ListAlerts", LIST_ALERTS),
    Rpc::new(
        "catalyst.audit.v1.AuditService/AcknowledgeAlert",
        ACKNOWLEDGE_ALERT,
    ),
    Rpc::new(
        "catalyst.audit.v1.AuditOperatorService/ListTenantRecords",
        LIST_TENANT_RECORDS,
    ),
    Rpc::new(
        "catalyst.audit.v1.AuditOperatorService/ExportRecords",
        EXPORT_RECORDS,
    ),
    Rpc::new(
        "catalyst.audit.v1.AuditOperatorService/ListTenantAlerts",
        LIST_TENANT_ALERTS,
    ),
    Rpc::new(
        "catalyst.audit.v1.AuditOperatorService/AcknowledgeTenantAlert",
        ACKNOWLEDGE_TENANT_ALERT,
    ),
];
