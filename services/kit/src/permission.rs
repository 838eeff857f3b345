//! Roles, permissions and the table that gives every RPC one.
//!
//! Invariant: an RPC without an entry is not served (default deny), and a handler that names another permission
//! than its entry is refused.

use serde::Deserialize;

/// What a user may be in a tenant, or on the platform. Carried in the token's `roles`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything within the tenant.
    Admin,
    /// Plans and staffs: writes clients, projects, assignments and everyone's time.
    Manager,
    /// Reads the tenant's projects; reads and writes only the own time.
    Consultant,
    /// Reads everything but the audit trail.
    Viewer,
    /// Reads everything, the audit trail included.
    Auditor,
    /// Runs the platform: the control plane alone, under the reserved tenant.
    PlatformOperator,
}

impl Role {
    /// The word in tokens and in tables for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Manager => "manager",
            Self::Consultant => "consultant",
            Self::Viewer => "viewer",
            Self::Auditor => "auditor",
            Self::PlatformOperator => "platform_operator",
        }
    }
}

/// Whom a permission lets in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allows {
    /// Users of a tenant that hold one of these roles.
    Roles(&'static [Role]),
    /// Platform operators, under the reserved tenant.
    Operator,
    /// These services, with a workload token and a delegated tenant.
    Services(&'static [&'static str]),
}

/// A named right. One RPC, one permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permission {
    /// `noun.verb_noun`, as in `projects.create_project`.
    pub name: &'static str,
    /// Whom it lets in.
    pub allows: Allows,
}

impl Permission {
    /// A right of users in a tenant.
    pub const fn roles(name: &'static str, roles: &'static [Role]) -> Self {
        Self {
            name,
            allows: Allows::Roles(roles),
        }
    }

    /// A right of platform operators.
    pub const fn operator(name: &'static str) -> Self {
        Self {
            name,
            allows: Allows::Operator,
        }
    }

    /// A right of services of this deployment.
    pub const fn services(name: &'static str, services: &'static [&'static str]) -> Self {
        Self {
            name,
            allows: Allows::Services(services),
        }
    }
}

/// One row of a service's role table.
#[derive(Clone, Copy, Debug)]
pub struct Rpc {
    /// `catalyst.projects.v1.ProjectService/CreateProject`, without the leading slash.
    pub method: &'static str,
    /// The right that a caller needs.
    pub permission: Permission,
}

impl Rpc {
    /// Pairs an RPC with its permission.
    pub const fn new(method: &'static str, permission: Permission) -> Self {
        Self { method, permission }
    }
}

/// Every RPC of `grpc_services` in the contract that has no entry or more than one in `table`,
/// and every entry that names no such RPC. A process that finds any refuses to start.
pub fn departures(grpc_services: &[&str], table: &[Rpc]) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(pool) = prost_reflect::DescriptorPool::decode(proto::DESCRIPTOR_SET) else {
        return vec!["the embedded descriptor set does not decode".to_owned()];
    };
    let mut known = Vec::new();
    for name in grpc_services {
        let Some(service) = pool.get_service_by_name(name) else {
            found.push(format!("{name} is not in the contract"));
            continue;
        };
        for method in service.methods() {
            let full = format!("{name}/{}", method.name());
            match table.iter().filter(|rpc| rpc.method == full).count() {
                1 => {}
                0 => found.push(format!("{full} has no permission")),
                _ => found.push(format!("{full} has more than one permission")),
            }
            known.push(full);
        }
    }
    for rpc in table {
        if !known.iter().any(|full| full == rpc.method) {
            found.push(format!(
                "{} has a permission but is no RPC of this service",
                rpc.method
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "catalyst.consultants.v1.ConsultantLookupService";
    const LOOKUP: Rpc = Rpc::new(
        "catalyst.consultants.v1.ConsultantLookupService/LookupConsultant",
        Permission::services("consultants.lookup_consultant", &["projects"]),
    );

    #[test]
    fn an_rpc_without_a_permission_is_a_departure() {
        assert!(departures(&[SERVICE], &[LOOKUP]).is_empty());
        assert_eq!(departures(&[SERVICE], &[]).len(), 1);
    }

    #[test]
    fn two_permissions_of_an_rpc_and_one_of_none_are_departures() {
        assert_eq!(departures(&[SERVICE], &[LOOKUP, LOOKUP]).len(), 1);
        let steal = Rpc::new("catalyst.x.v1.X/Steal", LOOKUP.permission);
        assert_eq!(departures(&[SERVICE], &[LOOKUP, steal]).len(), 1);
        assert_eq!(departures(&["catalyst.x.v1.X"], &[]).len(), 1);
    }
}
