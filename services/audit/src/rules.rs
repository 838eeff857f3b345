//! Alert rules: which events meet which rule, whose repeats are counted together, and who is told. Pure.
//!
//! An event meets every rule that it matches; a rule with `fallback` is met only by what no other rule matches.
//! Invariant: every security event of severity HIGH meets a rule, whatever a file of rules says: what none matches meets
//! the built-in `high-severity`. Events of audit itself meet none, or an alert could raise an alert.

pub mod file;
mod names;
mod reader;

use std::sync::Arc;

use kit::ctx::Actor;
use proto::common::v1::Severity;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::attempt::derived_id;
use crate::happening::Happening;
use crate::record::Category;

/// The rule of attempts across tenants, whose offender only the operator may know.
pub const CROSS_TENANT: &str = "cross-tenant-access";
/// The rule that takes what severe events no other rule has.
pub const HIGH_SEVERITY: &str = "high-severity";
/// The package of the events that this service emits itself.
const OWN_EVENTS: &str = "catalyst.audit.v1.";

/// What an alert is about, and when it is raised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The name in the contract.
    pub name: String,
    /// A few words.
    pub title: String,
    /// What happened and what to do. Tenants read it: it says nothing of any one of them.
    pub description: String,
    /// How much its alerts ask for attention.
    pub severity: Severity,
    /// Which events meet it.
    pub matches: Match,
    /// It is met only by events that meet no other rule.
    pub fallback: bool,
    /// Calls within `window` that raise an alert, 1 or more.
    pub threshold: i64,
    /// Within how long.
    pub window: Duration,
    /// What repeats must have in common to be counted together, beside rule and tenant.
    pub group_by: Vec<GroupBy>,
    /// A repeat later than this after the last one raises an alert of its own, so that someone is told again.
    pub repeat_within: Duration,
    /// The sinks that are told; none: all of them.
    pub routes: Option<Vec<String>>,
}

/// Which events. What is empty or none does not choose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Full names of messages.
    pub types: Vec<String>,
    /// This severity or a worse one.
    pub min_severity: Option<Severity>,
    /// The stream; without it and without types, the security stream.
    pub category: Option<Category>,
    /// Whether a person or a service acted.
    pub actor_type: Option<ActorType>,
    /// Kinds of resources.
    pub resource_kinds: Vec<String>,
    /// Reasons that the event gives for the refusal.
    pub reasons: Vec<String>,
}

/// Who acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActorType {
    /// A person with a verified token.
    User,
    /// A service.
    Service,
    /// No one that was verified.
    None,
}

/// What repeats have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// Whoever acted, of whichever tenant.
    Actor,
    /// The tenant of whoever acted. Of an attempt across tenants that is the offender's.
    Tenant,
    /// The peer of callers that were not verified.
    SourceAddress,
    /// The kind of resource.
    ResourceKind,
    /// The RPC.
    Method,
}

/// A receiver of alerts that a file or a setting names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkSpec {
    /// What rules route to.
    pub name: String,
    /// Where.
    pub url: String,
    /// How.
    pub kind: SinkKind,
    /// Whether deliveries name who acted: of an attempt across tenants, a person of another firm than the alert's.
    pub names_offender: bool,
}

/// How a receiver is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// Standard Webhooks: once, signed with the secret in this file.
    Webhook {
        /// Holds `whsec_…`.
        secret_file: std::path::PathBuf,
    },
    /// Prometheus Alertmanager, API v2: kept firing until acknowledged.
    Alertmanager {
        /// Holds a bearer token, if the API asks for one.
        token_file: Option<std::path::PathBuf>,
    },
}

impl SinkSpec {
    /// Whether it is told again while an alert is open, and when the alert no longer is.
    pub fn resolves(&self) -> bool {
        matches!(self.kind, SinkKind::Alertmanager { .. })
    }
}

/// Rules and receivers that fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSet {
    /// In the order of the file.
    pub rules: Vec<Arc<Rule>>,
    /// Each name once.
    pub sinks: Vec<SinkSpec>,
}

/// Events of one group that meet one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// Which.
    pub rule: Arc<Rule>,
    /// The same for repeats and for nothing else.
    pub key: Uuid,
    /// When, and how many calls each stands for.
    pub hits: Vec<Hit>,
    /// The first of the events.
    pub event_id: Uuid,
    /// The trace that led to it.
    pub traceparent: Option<String>,
    /// Names who caused the first of the events, without saying so.
    pub offender_key: Uuid,
    /// Who that was.
    pub offender: Actor,
}

/// One event of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    /// When it occurred.
    pub at: OffsetDateTime,
    /// The calls that it stands for.
    pub calls: i64,
}

impl RuleSet {
    /// What events of one tenant meet, grouped, in the order of the first of each group.
    pub fn met<'a>(&self, happenings: impl IntoIterator<Item = &'a Happening>) -> Vec<Met> {
        let mut met: Vec<Met> = Vec::new();
        for happening in happenings {
            for rule in self.rules_for(happening) {
                let key = rule.key(happening);
                let hit = Hit {
                    at: happening.at,
                    calls: happening.calls,
                };
                match met.iter_mut().find(|it| it.rule == *rule && it.key == key) {
                    Some(known) => known.hits.push(hit),
                    None => met.push(Met {
                        rule: Arc::clone(rule),
                        key,
                        hits: vec![hit],
                        event_id: happening.event_id,
                        traceparent: happening.traceparent.clone(),
                        offender_key: offender_key(happening),
                        offender: happening.actor.clone(),
                    }),
                }
            }
        }
        met
    }

    /// Whether any rule looks at domain events, which are many.
    pub fn asks_for_domain_events(&self) -> bool {
        self.rules.iter().any(|rule| rule.matches.may_be_domain())
    }

    fn rules_for(&self, happening: &Happening) -> Vec<&Arc<Rule>> {
        if happening.type_name.starts_with(OWN_EVENTS) {
            return Vec::new();
        }
        let of = |fallback: bool| {
            let rules = self.rules.iter().filter(move |it| it.fallback == fallback);
            rules
                .filter(|rule| rule.matches.holds(happening))
                .collect::<Vec<_>>()
        };
        let own = of(false);
        if own.is_empty() { of(true) } else { own }
    }

    /// The names of the sinks that a rule's alerts go to.
    pub fn routes_of(&self, rule: &Rule) -> Vec<&SinkSpec> {
        let is_told = |sink: &&SinkSpec| {
            rule.routes
                .as_ref()
                .is_none_or(|routes| routes.contains(&sink.name))
        };
        self.sinks.iter().filter(is_told).collect()
    }
}

/// Names whoever acted without saying so.
pub fn offender_key(happening: &Happening) -> Uuid {
    derived_id("offender", happening.principal().as_bytes())
}

impl Rule {
    /// The same for events that are repeats of each other. What it is made of cannot be read from it.
    fn key(&self, happening: &Happening) -> Uuid {
        let parts = self.group_by.iter().map(|group| match group {
            GroupBy::Actor => happening.principal(),
            GroupBy::Tenant => happening.tenant.to_string(),
            GroupBy::SourceAddress => happening.source_address.clone(),
            GroupBy::ResourceKind => happening.kind.clone(),
            GroupBy::Method => happening.method.clone(),
        });
        derived_id(&self.name, parts.collect::<Vec<_>>().join("\n").as_bytes())
    }
}

impl Match {
    fn may_be_domain(&self) -> bool {
        match self.category {
            Some(category) => category == Category::Domain,
            None => self
                .types
                .iter()
                .any(|name| !name.starts_with("catalyst.common.v1.")),
        }
    }

    fn holds(&self, happening: &Happening) -> bool {
        let category = match self.category {
            None if self.types.is_empty() => Some(Category::Security),
            category => category,
        };
        let actor_type = match &happening.actor {
            Actor::User(id) if id.is_empty() => ActorType::None,
            Actor::User(_) => ActorType::User,
            Actor::Service(_) => ActorType::Service,
        };
        let among = |list: &[String], value: &String| list.is_empty() || list.contains(value);
        category.is_none_or(|category| category == happening.category)
            && self
                .min_severity
                .is_none_or(|least| happening.severity >= least)
            && self.actor_type.is_none_or(|wanted| wanted == actor_type)
            && among(&self.types, &happening.type_name)
            && among(&self.resource_kinds, &happening.kind)
            && among(&self.reasons, &happening.reason)
    }
}

/// Hits that have not raised an alert yet, of one rule and group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// By time.
    hits: Vec<Hit>,
}

impl Counter {
    /// Takes them as stored.
    pub fn new(mut hits: Vec<Hit>) -> Self {
        hits.sort_unstable();
        Self { hits }
    }

    /// Adds hits. When the rule's threshold is reached within its window, all hits that belong together are returned,
    /// and the counter is empty: the alert counts from there.
    pub fn add(&mut self, rule: &Rule, hits: &[Hit]) -> Option<Vec<Hit>> {
        self.hits.extend_from_slice(hits);
        self.hits.sort_unstable();
        if reaches(&self.hits, rule) {
            return Some(std::mem::take(&mut self.hits));
        }
        // A hit that comes late may still belong to those of the window before it.
        if let Some(last) = self.hits.last().map(|hit| hit.at) {
            self.hits.retain(|hit| last - hit.at < rule.window * 2);
        }
        None
    }

    /// What is to be stored.
    pub fn hits(&self) -> &[Hit] {
        &self.hits
    }
}

/// Whether any window holds as many calls as the threshold.
fn reaches(hits: &[Hit], rule: &Rule) -> bool {
    let mut sum = 0;
    let mut oldest = hits.iter();
    for hit in hits {
        sum += hit.calls;
        while let Some(first) = oldest.as_slice().first() {
            if hit.at - first.at < rule.window {
                break;
            }
            sum -= first.calls;
            oldest.next();
        }
        if sum >= rule.threshold {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use kit::TenantId;
    use proptest::prelude::*;
    use prost::Name;
    use proto::common::v1 as security;

    use super::*;

    const ACME: TenantId = TenantId::new(Uuid::from_u128(1));

    fn happening(type_name: String, severity: Severity, actor: &str) -> Happening {
        Happening {
            type_name,
            category: Category::Security,
            severity,
            tenant: ACME,
            actor: Actor::User(actor.to_owned()),
            kind: String::new(),
            reason: String::new(),
            source_address: String::new(),
            method: String::new(),
            calls: 1,
            event_id: Uuid::nil(),
            traceparent: None,
            at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    fn mismatch(actor: &str) -> Happening {
        let name = security::TenantMismatchDetected::full_name();
        happening(name, Severity::High, actor)
    }

    fn names(happening: &Happening) -> Vec<String> {
        let met = file::built_in().met([happening]);
        met.iter().map(|it| it.rule.name.clone()).collect()
    }

    #[test]
    fn a_severe_event_that_no_rule_knows_meets_the_last_and_others_meet_none() {
        let unknown = happening("catalyst.common.v1.New".to_owned(), Severity::High, "kim");
        assert_eq!(names(&unknown), [HIGH_SEVERITY]);
        let mild = Happening {
            severity: Severity::Medium,
            ..unknown
        };
        assert!(names(&mild).is_empty());
        assert_eq!(names(&mismatch("kim")), ["tenant-mismatch"]);
    }

    #[test]
    fn an_alert_of_our_own_raises_no_alert() {
        let own = happening(
            "catalyst.audit.v1.AlertRaised".to_owned(),
            Severity::High,
            "kim",
        );
        assert!(names(&own).is_empty());
    }

    #[test]
    fn repeats_of_one_offender_are_counted_together_and_of_another_apart() {
        let events = [mismatch("kim"), mismatch("lee"), mismatch("kim")];
        let met = file::built_in().met(&events);
        let hits: Vec<usize> = met.iter().map(|it| it.hits.len()).collect();
        assert_eq!(hits, [2, 1]);
        assert_ne!(met[0].key, met[1].key);
        assert_ne!(met[0].offender_key, met[1].offender_key);
    }

    #[test]
    fn an_attack_on_tokens_is_told_apart_by_its_reason_and_its_source() {
        let name = security::AuthenticationFailed::full_name();
        let failed = |reason: &str, source: &str| Happening {
            reason: reason.to_owned(),
            source_address: source.to_owned(),
            ..happening(name.clone(), Severity::Medium, "")
        };
        let forged = failed("BAD_SIGNATURE", "192.0.2.1");
        assert_eq!(names(&forged), ["authentication-attack"]);
        assert!(names(&failed("EXPIRED", "192.0.2.1")).is_empty());
        let set = file::built_in();
        let key = |it: &Happening| set.met([it])[0].key;
        assert_ne!(key(&forged), key(&failed("UNKNOWN_KEY", "192.0.2.2")));
        assert_eq!(key(&forged), key(&failed("UNKNOWN_KEY", "192.0.2.1")));
    }

    fn rule(threshold: i64, seconds: i64) -> Rule {
        let rule = file::built_in().rules[0].as_ref().clone();
        Rule {
            threshold,
            window: Duration::seconds(seconds),
            ..rule
        }
    }

    fn hit(second: i64, calls: i64) -> Hit {
        let at = OffsetDateTime::UNIX_EPOCH + Duration::seconds(second);
        Hit { at, calls }
    }

    #[test]
    fn the_threshold_is_reached_within_the_window_and_not_across_it() {
        let rule = rule(3, 60);
        let mut counter = Counter::default();
        assert_eq!(counter.add(&rule, &[hit(0, 1), hit(30, 1)]), None);
        assert_eq!(counter.add(&rule, &[hit(60, 1)]), None, "0 is out of it");
        let fired = counter.add(&rule, &[hit(61, 1)]).unwrap();
        assert_eq!(fired.len(), 4, "what is still kept belongs to the alert");
        assert!(counter.hits().is_empty());
    }

    #[test]
    fn one_event_of_many_calls_counts_as_many() {
        let mut counter = Counter::default();
        assert_eq!(counter.add(&rule(20, 60), &[hit(0, 19)]), None);
        assert!(counter.add(&rule(20, 60), &[hit(1, 1)]).is_some());
    }

    proptest! {
        #[test]
        fn whatever_the_order_within_a_window_the_last_one_missing_raises(
            seconds in prop::collection::vec(0i64..60, 5..40), cut in 1usize..4
        ) {
            let threshold = i64::try_from(seconds.len()).unwrap();
            let rule = rule(threshold, 60);
            let hits: Vec<Hit> = seconds.iter().map(|second| hit(*second, 1)).collect();
            let mut counter = Counter::default();
            let (last, all) = hits.split_last().unwrap();
            for chunk in all.chunks(cut) {
                prop_assert_eq!(counter.add(&rule, chunk), None);
                // As if it were stored and read again.
                counter = Counter::new(counter.hits().to_vec());
            }
            let fired = counter.add(&rule, &[*last]).map(|it| it.len());
            prop_assert_eq!(fired, Some(hits.len()));
        }
    }
}
