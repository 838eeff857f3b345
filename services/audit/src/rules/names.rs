//! The events of the contract that rules may name, and the reasons that they give. Pure.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

/// Where events are declared.
const FILES: [&str; 2] = ["/events.proto", "/security_events.proto"];
/// Written by audit about events that have met the rules themselves.
const NOT_MATCHED: [&str; 2] = [
    "catalyst.audit.v1.",
    "catalyst.common.v1.SecurityEventsAggregated",
];

static CONTRACT: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(proto::DESCRIPTOR_SET).unwrap_or_default());

/// The full name of an event; one without a package is of the security events.
pub(super) fn event(name: &str) -> Option<String> {
    let full_name = if name.contains('.') {
        name.to_owned()
    } else {
        format!("catalyst.common.v1.{name}")
    };
    let message = CONTRACT.get_message_by_name(&full_name)?;
    let is_event = FILES
        .iter()
        .any(|file| message.parent_file().name().ends_with(file))
        && message.name() != "Actor"
        && !NOT_MATCHED.iter().any(|own| full_name.starts_with(own));
    is_event.then_some(full_name)
}

/// The reasons that events of these types may give, without the prefix of their enum.
pub(super) fn reasons(types: &[String]) -> BTreeSet<String> {
    let messages = types
        .iter()
        .filter_map(|name| CONTRACT.get_message_by_name(name));
    messages.flat_map(|message| reasons_of(&message)).collect()
}

fn reasons_of(message: &MessageDescriptor) -> Vec<String> {
    let mut reasons = Vec::new();
    for field in message.fields().filter(|field| field.name() != "severity") {
        let Kind::Enum(values) = field.kind() else {
            continue;
        };
        let zero = values.default_value().name().to_owned();
        let prefix = zero.trim_end_matches("UNSPECIFIED");
        let names = values.values().map(|value| value.name().to_owned());
        reasons.extend(
            names
                .filter(|name| *name != zero)
                .filter_map(|name| Some(name.strip_prefix(prefix)?.to_owned())),
        );
    }
    reasons
}
