//! What audit hears: everything.

mod on_domain_events;
mod on_security_events;

pub(crate) use on_domain_events::OnDomainEvents;
pub(crate) use on_security_events::OnSecurityEvents;
