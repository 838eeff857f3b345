//! Messages as canonical proto JSON, by the descriptors of the contract.

use std::sync::LazyLock;

use anyhow::Context as _;
use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DynamicMessage};

static CONTRACT: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(proto::DESCRIPTOR_SET).unwrap_or_default());

/// A message in the form that serializes to proto JSON.
pub(super) fn dynamic<M: Message + Name>(message: &M) -> anyhow::Result<DynamicMessage> {
    decode(&M::full_name(), &message.encode_to_vec())
}

/// The body of an event by the full name of its type.
pub(super) fn decode(type_name: &str, body: &[u8]) -> anyhow::Result<DynamicMessage> {
    let descriptor = CONTRACT
        .get_message_by_name(type_name)
        .with_context(|| format!("{type_name} is not in the contract of this program"))?;
    DynamicMessage::decode(descriptor, body)
        .with_context(|| format!("the message is not of the type {type_name}"))
}

/// A value of an enum as people write it: `PROJECT_STATE_ACTIVE` without its prefix, in lowercase.
pub(super) fn word(value: &str, prefix: &str) -> String {
    value
        .strip_prefix(prefix)
        .unwrap_or(value)
        .to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use proto::projects::v1 as pb;

    use super::*;

    #[test]
    fn a_message_becomes_canonical_json() {
        let project = pb::Project {
            code: "APOLLO".to_owned(),
            state: pb::ProjectState::Active.into(),
            budget_minutes: Some(600),
            create_time: Some(prost_types::Timestamp {
                seconds: 1_000_000_000,
                nanos: 0,
            }),
            ..Default::default()
        };
        assert_eq!(
            serde_json::to_string(&dynamic(&project).unwrap()).unwrap(),
            r#"{"code":"APOLLO","state":"PROJECT_STATE_ACTIVE","budgetMinutes":"600","createTime":"2001-09-09T01:46:40Z"}"#
        );
    }

    #[test]
    fn words_of_enums_lose_their_prefix() {
        assert_eq!(word("PROJECT_STATE_ACTIVE", "PROJECT_STATE_"), "active");
    }
}
