//! Alerts: which security events raise one, what counts as a repeat, and what people read. Pure.

use kit::TenantId;
use kit::ctx::Actor;
use kit::ids::{Id, Kind};
use proto::common::v1::Severity;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::attempt::{Attempt, derived_id};
use crate::record::Entry;

/// Marks ids of alerts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AlertKind;

impl Kind for AlertKind {
    const NAME: &'static str = "alert";
}

/// The id of an alert.
pub type AlertId = Id<AlertKind>;

/// A repeat this long after the last event raises an alert of its own, so that someone is told again.
pub const REPEAT_WINDOW: Duration = Duration::minutes(5);

/// The rule of attempts across tenants, whose offender only the operator may know.
pub const CROSS_TENANT: &str = "cross-tenant-access";

/// What an alert is about, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The name in the contract.
    pub name: &'static str,
    /// The type of event that meets it; empty for those that no other rule has.
    type_name: &'static str,
    /// A few words.
    pub title: &'static str,
    /// What happened and what to do.
    pub description: &'static str,
}

/// Every event of severity HIGH meets one of these; the last takes what the others do not.
const RULES: [Rule; 5] = [
    Rule {
        name: CROSS_TENANT,
        type_name: "catalyst.common.v1.CrossTenantAccessAttempted",
        title: "A resource of this firm was named from another firm",
        description: "A caller of another firm asked for a resource of this firm by its id and was told that it does \
                      not exist. Nothing was read. Find out how the id left the firm; the operator of the platform \
                      knows who asked.",
    },
    Rule {
        name: "tenant-mismatch",
        type_name: "catalyst.common.v1.TenantMismatchDetected",
        title: "A caller of this firm named another firm",
        description: "A call with a valid token of this firm named another tenant in its metadata and was refused. No \
                      correct client does this: check the client and the account that the audit records name.",
    },
    Rule {
        name: "service-identity-misuse",
        type_name: "catalyst.common.v1.ServiceIdentityMisused",
        title: "An identity was used where it may not be",
        description: "A user acted as a service, or a service called what it may not, and was refused. Check the \
                      account that the audit records name; if it is a service, its key may be in other hands.",
    },
    Rule {
        name: "event-rejected",
        type_name: "catalyst.common.v1.EventRejected",
        title: "An event was not what it claimed to be",
        description: "A consumer met an event whose subject, source or type disagree, and set it aside. Whoever \
                      published it holds credentials of the broker: look at it among the dead letters before anything \
                      is replayed.",
    },
    Rule {
        name: "high-severity",
        type_name: "",
        title: "A security event of high severity",
        description: "An event that no correct client causes was recorded. Read it in the audit records.",
    },
];

impl Rule {
    /// The rule that events of a type meet.
    pub fn of_type(type_name: &str) -> &'static Self {
        let [known @ .., last] = &RULES;
        known
            .iter()
            .find(|rule| rule.type_name == type_name)
            .unwrap_or(last)
    }

    /// The rule of a stored name. One that this version does not know reads as the last.
    pub fn named(name: &str) -> &'static Self {
        let [known @ .., last] = &RULES;
        known.iter().find(|rule| rule.name == name).unwrap_or(last)
    }
}

/// Events of one offender that meet one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Which.
    pub rule: &'static Rule,
    /// How much it asks for attention.
    pub severity: Severity,
    /// The same for repeats and for nothing else.
    pub dedup_key: Uuid,
    /// The first of the events.
    pub event_id: Uuid,
    /// The trace that led to it.
    pub traceparent: Option<String>,
    /// How many events.
    pub occurrences: i64,
    /// When the first of them occurred.
    pub first_at: OffsetDateTime,
    /// When the last of them occurred.
    pub last_at: OffsetDateTime,
}

impl Trigger {
    /// What events of `tenant` trigger, repeats counted together.
    pub fn of_entries<'a>(
        tenant: TenantId,
        entries: impl IntoIterator<Item = &'a Entry>,
    ) -> Vec<Self> {
        let severe = entries
            .into_iter()
            .filter(|entry| entry.severity == Severity::High);
        merge(severe.map(|entry| {
            let rule = Rule::of_type(&entry.type_name);
            let offender = offender(tenant, &entry.actor);
            Self::once(
                rule,
                &offender,
                entry.event_id,
                entry.occurred_at,
                entry.traceparent.clone(),
            )
        }))
    }

    /// What attempts on one victim trigger, repeats counted together.
    pub fn of_attempts<'a>(attempts: impl IntoIterator<Item = &'a Attempt>) -> Vec<Self> {
        merge(attempts.into_iter().map(|attempt| {
            let offender = format!(
                "{}/{}",
                offender(attempt.offender, &attempt.actor),
                attempt.kind
            );
            let traceparent = attempt.traceparent.clone();
            Self::once(
                Rule::named(CROSS_TENANT),
                &offender,
                attempt.event_id(),
                attempt.occurred_at,
                traceparent,
            )
        }))
    }

    fn once(
        rule: &'static Rule,
        offender: &str,
        event_id: Uuid,
        at: OffsetDateTime,
        traceparent: Option<String>,
    ) -> Self {
        let dedup_key = derived_id(rule.name, offender.as_bytes());
        Self {
            rule,
            severity: Severity::High,
            dedup_key,
            event_id,
            traceparent,
            occurrences: 1,
            first_at: at,
            last_at: at,
        }
    }
}

fn offender(tenant: TenantId, actor: &Actor) -> String {
    format!("{tenant}/{}/{}", actor.kind(), actor.id())
}

fn merge(triggers: impl Iterator<Item = Trigger>) -> Vec<Trigger> {
    let mut merged: Vec<Trigger> = Vec::new();
    for trigger in triggers {
        let known = merged
            .iter_mut()
            .find(|it| it.rule == trigger.rule && it.dedup_key == trigger.dedup_key);
        match known {
            Some(known) => {
                known.occurrences += trigger.occurrences;
                known.first_at = known.first_at.min(trigger.first_at);
                known.last_at = known.last_at.max(trigger.last_at);
            }
            None => merged.push(trigger),
        }
    }
    merged
}

/// Who acknowledged an alert, when, and what was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledgement {
    /// `user` or `service`.
    pub actor_kind: String,
    /// The subject of the user.
    pub actor_id: String,
    /// When.
    pub at: OffsetDateTime,
    /// May be empty.
    pub note: String,
}

/// Whether those who are to be told have been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryState {
    /// Tried until it is accepted.
    Pending,
    /// Accepted.
    Delivered,
    /// There is nobody to tell.
    NotConfigured,
}

impl DeliveryState {
    /// As stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::NotConfigured => "not_configured",
        }
    }

    /// Reads the column back.
    pub fn from_text(text: &str) -> Self {
        match text {
            "delivered" => Self::Delivered,
            "not_configured" => Self::NotConfigured,
            _ => Self::Pending,
        }
    }
}

/// A rule that events have met, and what has been done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// Made by this service.
    pub id: AlertId,
    /// The name of the rule.
    pub rule: String,
    /// As stored.
    pub severity: i16,
    /// Events that met the rule, 1 or more.
    pub occurrences: i64,
    /// When the first of them occurred.
    pub first_at: OffsetDateTime,
    /// When the last of them occurred.
    pub last_at: OffsetDateTime,
    /// None while it is open.
    pub acknowledged: Option<Acknowledgement>,
    /// Whether it was delivered.
    pub delivery: DeliveryState,
    /// Rises with each change but delivery.
    pub revision: i64,
    /// When it was raised.
    pub created_at: OffsetDateTime,
    /// When `revision` last rose.
    pub updated_at: OffsetDateTime,
}

impl Alert {
    /// An open alert.
    pub fn raised(
        id: AlertId,
        trigger: &Trigger,
        delivery: DeliveryState,
        now: OffsetDateTime,
    ) -> Self {
        Self {
            id,
            rule: trigger.rule.name.to_owned(),
            severity: severity_number(trigger.severity),
            occurrences: trigger.occurrences,
            first_at: trigger.first_at,
            last_at: trigger.last_at,
            acknowledged: None,
            delivery,
            revision: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// Notes who has taken care of it; false if someone had before.
    pub fn acknowledge(&mut self, actor: &Actor, note: String, now: OffsetDateTime) -> bool {
        if self.acknowledged.is_some() {
            return false;
        }
        let (actor_kind, actor_id) = (actor.kind().to_owned(), actor.id().to_owned());
        self.acknowledged = Some(Acknowledgement {
            actor_kind,
            actor_id,
            at: now,
            note,
        });
        self.revision += 1;
        self.updated_at = now;
        true
    }

    /// The version of its events: raised, then acknowledged. What is merely counted emits nothing.
    pub fn event_version(&self) -> i64 {
        if self.acknowledged.is_some() { 2 } else { 1 }
    }
}

/// A severity as the database has it, 1 to 4.
pub fn severity_number(severity: Severity) -> i16 {
    match severity {
        Severity::Unspecified | Severity::Info => 1,
        Severity::Low => 2,
        Severity::Medium => 3,
        Severity::High => 4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Name;
    use proto::common::v1 as security;

    use super::*;
    use crate::record::Category;

    const ACME: TenantId = TenantId::new(Uuid::from_u128(1));

    fn entry(n: u128, type_name: String, severity: Severity, actor: &str) -> Entry {
        Entry {
            id: Uuid::from_u128(n),
            event_id: Uuid::from_u128(n),
            type_name,
            category: Category::Security,
            severity,
            actor: Actor::User(actor.to_owned()),
            source: "projects".to_owned(),
            aggregate_id: Uuid::from_u128(n),
            version: 1,
            resource: None,
            occurred_at: OffsetDateTime::UNIX_EPOCH + Duration::seconds(i64::try_from(n).unwrap()),
            traceparent: None,
            body: Vec::new().into(),
        }
    }

    fn mismatch(n: u128, actor: &str) -> Entry {
        entry(
            n,
            security::TenantMismatchDetected::full_name(),
            Severity::High,
            actor,
        )
    }

    #[test]
    fn only_events_of_high_severity_alert() {
        let low = entry(
            1,
            security::PermissionDenied::full_name(),
            Severity::Medium,
            "kim",
        );
        assert!(Trigger::of_entries(ACME, &[low]).is_empty());
        let unknown = entry(
            2,
            "catalyst.common.v1.NotKnownYet".to_owned(),
            Severity::High,
            "kim",
        );
        assert_eq!(
            Trigger::of_entries(ACME, &[unknown])[0].rule.name,
            "high-severity"
        );
    }

    #[test]
    fn repeats_of_one_offender_are_counted_together() {
        let entries = [mismatch(3, "kim"), mismatch(5, "lee"), mismatch(4, "kim")];
        let triggers = Trigger::of_entries(ACME, &entries);
        assert_eq!(
            triggers.iter().map(|it| it.occurrences).collect::<Vec<_>>(),
            [2, 1]
        );
        assert_eq!(triggers[0].event_id, Uuid::from_u128(3));
        assert_eq!(triggers[0].last_at - triggers[0].first_at, Duration::SECOND);
        let misuse = entry(
            6,
            security::ServiceIdentityMisused::full_name(),
            Severity::High,
            "kim",
        );
        assert_ne!(
            Trigger::of_entries(ACME, &[misuse])[0].dedup_key,
            triggers[0].dedup_key
        );
    }

    #[test]
    fn an_alert_is_acknowledged_once_and_by_the_first() {
        let trigger = Trigger::of_entries(ACME, &[mismatch(1, "kim")]).remove(0);
        let now = OffsetDateTime::UNIX_EPOCH;
        let mut alert = Alert::raised(
            AlertId::new(Uuid::nil()),
            &trigger,
            DeliveryState::Pending,
            now,
        );
        assert!(alert.acknowledge(&Actor::User("lee".to_owned()), "seen".to_owned(), now));
        assert!(!alert.acknowledge(&Actor::User("kim".to_owned()), "mine".to_owned(), now));
        assert_eq!(
            alert.acknowledged.as_ref().map(|it| it.actor_id.as_str()),
            Some("lee")
        );
        assert_eq!((alert.revision, alert.event_version()), (2, 2));
    }

    #[test]
    fn every_rule_is_of_an_event_of_the_contract_and_found_by_its_name() {
        let pool = prost_reflect::DescriptorPool::decode(proto::DESCRIPTOR_SET).unwrap();
        for rule in &RULES {
            assert!(
                rule.type_name.is_empty() || pool.get_message_by_name(rule.type_name).is_some(),
                "{}",
                rule.name
            );
            assert_eq!(Rule::named(rule.name), rule);
        }
    }

    proptest! {
        #[test]
        fn no_event_is_lost_in_the_count(actors in proptest::collection::vec("[a-c]", 0..40)) {
            let entries: Vec<Entry> = actors.iter().zip(1..).map(|(actor, n)| mismatch(n, actor)).collect();
            let triggers = Trigger::of_entries(ACME, &entries);
            let counted: i64 = triggers.iter().map(|trigger| trigger.occurrences).sum();
            prop_assert_eq!(counted, i64::try_from(actors.len()).unwrap());
            let distinct: std::collections::HashSet<&String> = actors.iter().collect();
            prop_assert_eq!(triggers.len(), distinct.len());
        }
    }
}
