//! The contract of Catalyst as Rust: messages, clients and servers, generated from the `.proto` files of this crate.
//!
//! Nothing here is written by hand but this module tree, which mirrors the packages: `catalyst.projects.v1` is
//! [`projects::v1`]. Every message implements [`prost::Name`], whose full name is the type of an event on the bus.

/// Firms that share the deployment.
pub mod tenants {
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/catalyst.tenants.v1.rs"));
    }
}

/// People who do the work.
pub mod consultants {
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/catalyst.consultants.v1.rs"));
    }
}

/// Clients, their projects and who is assigned to them.
pub mod projects {
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/catalyst.projects.v1.rs"));
    }
}

/// Time worked.
pub mod time_entries {
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/catalyst.time_entries.v1.rs"));
    }
}

/// What happened, who did it, and what it alerts.
pub mod audit {
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/catalyst.audit.v1.rs"));
    }
}

/// What all packages share: error reasons, money, security events.
pub mod common {
    /// Version 1.
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/catalyst.common.v1.rs"));
    }
}

/// All files as an encoded `google.protobuf.FileDescriptorSet`, imports included and comments removed: what server
/// reflection serves and what tests enumerate methods from.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
