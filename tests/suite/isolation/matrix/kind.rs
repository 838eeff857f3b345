//! Kinds of RPCs, by which attacks apply and what must come of them; derived from the contract, never declared.

use prost_reflect::MethodDescriptor;

/// What an RPC does to its service's rows, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Create,
    Get,
    List,
    Update,
    Delete,
    Link,
    Bulk,
    Watch,
    Report,
    /// For the operator of the platform alone.
    Admin,
    /// For other services of the deployment alone.
    Internal,
}

impl Kind {
    /// In the order of the printed table.
    pub(super) const ALL: [Self; 11] = [
        Self::Create,
        Self::Get,
        Self::List,
        Self::Update,
        Self::Delete,
        Self::Link,
        Self::Bulk,
        Self::Watch,
        Self::Report,
        Self::Admin,
        Self::Internal,
    ];

    /// The kind that a method's service, streams and verb make it; none for a verb that no attack knows how to judge.
    pub(super) fn of(method: &MethodDescriptor) -> Option<Self> {
        let service = method.parent_service();
        if matches!(service.name(), "TenantService" | "AuditOperatorService") {
            return Some(Self::Admin);
        }
        if service.name().ends_with("LookupService") {
            return Some(Self::Internal);
        }
        if method.is_client_streaming() {
            return Some(Self::Bulk);
        }
        if method.is_server_streaming() {
            return Some(Self::Watch);
        }
        let verbs: [(&str, Self); 11] = [
            ("Create", Self::Create),
            ("Get", Self::Get),
            ("List", Self::List),
            ("Update", Self::Update),
            ("Acknowledge", Self::Update),
            ("Delete", Self::Delete),
            ("Archive", Self::Delete),
            ("Deactivate", Self::Delete),
            ("Assign", Self::Link),
            ("Unassign", Self::Link),
            ("Summarize", Self::Report),
        ];
        verbs
            .iter()
            .find(|(verb, _)| method.name().starts_with(verb))
            .map(|(_, kind)| *kind)
    }
}
