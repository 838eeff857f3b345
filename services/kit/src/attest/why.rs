//! Why each rule matters: the attack or the accident that a departure opens.
//! Invariant: every rule has its sentence; nothing else is listed.

use super::{Severity, probes, rules};

/// A rule for people.
#[derive(Clone, Copy, Debug)]
pub struct Explained {
    /// The stable name.
    pub rule: &'static str,
    /// How much its departures weigh.
    pub severity: Severity,
    /// The attack or the accident that a departure opens.
    pub why: &'static str,
}

/// Every rule that this module decides by.
pub fn explained() -> Vec<Explained> {
    let catalogs = rules().map(|rule| (rule.id, rule.severity));
    let probed = probes::RULES.map(|rule| (rule, Severity::Error));
    let sessions = super::session::RULES.map(|rule| (rule, Severity::Error));
    catalogs
        .chain(probed)
        .chain(sessions)
        .chain(super::live::RULES)
        .map(|(rule, severity)| Explained {
            rule,
            severity,
            why: why(rule).unwrap_or_default(),
        })
        .collect()
}

/// Why a rule matters.
pub fn why(rule: &str) -> Option<&'static str> {
    WHY.iter()
        .find(|(name, _)| *name == rule)
        .map(|(_, why)| *why)
}

const WHY: &[(&str, &str)] = &[
    (
        "schema-missing",
        "a schema that is misspelled in the list would pass for one without faults",
    ),
    (
        "tenant-column-missing",
        "rows that say nothing of their tenant cannot be kept from any",
    ),
    (
        "tenantless-wrong",
        "a stale entry of the list takes a table of tenants out of every other rule's sight",
    ),
    (
        "tenant-column-type",
        "ids of another type compare by rules of their own, such as case or spaces, and one tenant may be written in two ways",
    ),
    (
        "tenant-default",
        "a caller that forgets the tenant, or chooses the column that it is made of, writes into another's rows",
    ),
    (
        "tenant-column-nullable",
        "a row of no tenant is checked by no foreign key and found by nobody, or shown to all by the next policy",
    ),
    (
        "rls-not-enabled",
        "every role with a grant on the table reads and writes the rows of all tenants; a partition named directly is not covered by its parent",
    ),
    (
        "rls-not-forced",
        "whatever runs as the owner, such as a migration or a function with its rights, passes every policy unseen",
    ),
    (
        "owner-wrong",
        "an owner may switch row-level security off and replace policies; it must be a role that never serves",
    ),
    (
        "foreign-table",
        "policies of a foreign table are never applied, so that it shows all tenants' rows",
    ),
    (
        "inheritance-elsewhere",
        "a read through a parent applies the parent's policies alone, so that a parent elsewhere shows the rows of all tenants",
    ),
    (
        "view-not-invoker",
        "the view reads with the rights of its owner: whoever may read it sees what the owner sees",
    ),
    (
        "materialized-view",
        "its rows are a copy that no policy covers",
    ),
    (
        "rewrite-rule",
        "its statement runs with the rights of the table's owner and moves rows past the policies",
    ),
    (
        "trigger-elsewhere",
        "whoever may change the other schema runs code with every write of every tenant",
    ),
    (
        "publication-unfiltered",
        "a subscriber receives the changes of all tenants; policies do not apply to what is published",
    ),
    (
        "policy-not-tenant",
        "permissive policies add up, so that one which is true of another tenant's row shows it, or lets it be written",
    ),
    (
        "policy-to-public",
        "every role of the server passes it, those of other services and of people included",
    ),
    (
        "policy-to-stranger",
        "a role that nobody listed reaches tenants' rows, unjudged by any other rule",
    ),
    (
        "policy-without-check",
        "PostgreSQL then takes USING for what is written; a later change of what is seen changes unseen what may be written",
    ),
    (
        "grant-without-policy",
        "it always fails, so that the grant or the policy is a mistake, and the next change may make it a hole",
    ),
    (
        "granted-to-public",
        "every role of the server has the right, those of other services and of people included",
    ),
    (
        "granted-to-stranger",
        "a role that nobody listed has the right, unjudged by any other rule",
    ),
    (
        "granted-too-much",
        "TRUNCATE passes policies and empties all tenants' rows, REFERENCES makes an oracle of keys, TRIGGER runs code as other roles, a grant option spreads what was meant for one",
    ),
    (
        "partition-granted",
        "a partition that is named directly is not covered by the policies of its parent",
    ),
    (
        "tenantless-written",
        "what all tenants share, one tenant's request could change for all",
    ),
    (
        "sequence-granted",
        "a counter that all tenants share tells each how much the others write",
    ),
    (
        "function-to-public",
        "the default for a new function; once its rights or its text change, every role of the server can use the change",
    ),
    (
        "default-privileges",
        "the next table is granted before anybody has looked at it",
    ),
    (
        "key-not-by-tenant",
        "keys are checked without policies: a refused insert tells that another tenant has the value, and blocks it for this one",
    ),
    (
        "exclusion-not-by-tenant",
        "exclusion is checked without policies: a refused insert tells of another tenant's row",
    ),
    (
        "exclusion-incomplete",
        "rows that should exclude each other lie in partitions that are not compared",
    ),
    (
        "tenant-index-missing",
        "the policy is then decided row by row: each tenant's read costs the rows of all, and its time tells how many there are",
    ),
    (
        "index-not-by-tenant",
        "a scan of it visits the entries of all tenants: the time of one tenant's query tells how much the others have",
    ),
    (
        "key-by-counter",
        "each tenant learns from its own numbers how many the others drew",
    ),
    (
        "foreign-key-not-by-tenant",
        "foreign keys are checked without policies: a reference to another tenant's row succeeds, which tells that it exists, and its removal reaches across",
    ),
    (
        "foreign-key-moves-tenant",
        "the action of the key runs without policies and gives a row to another tenant, or to none",
    ),
    (
        "foreign-key-off",
        "references to rows that are not there, or not the tenant's, go unnoticed",
    ),
    (
        "foreign-key-not-valid",
        "rows of before may refer to another tenant's",
    ),
    (
        "foreign-key-unindexed",
        "each removal of a referenced row reads the rows of all tenants under a lock",
    ),
    (
        "role-missing",
        "what is expected of a role that is not there has not been judged",
    ),
    (
        "owner-serves",
        "the owner may switch row-level security off; a request that it serves can",
    ),
    (
        "role-attribute",
        "superusers and roles with BYPASSRLS meet no policy; the other attributes are ways to become one of them, or to read the log of all changes",
    ),
    (
        "role-membership",
        "the rights of a group are its members' too: pg_read_all_data reads every table that a policy does not hide, and the owner's member is the owner",
    ),
    (
        "role-lent",
        "whoever is a member of a serving role acts as it, unseen by what is judged of that role",
    ),
    (
        "role-owns",
        "an owner may grant, change policies and switch row-level security off",
    ),
    (
        "role-elsewhere",
        "a right outside of the role's own schema joins two services in the database, past gates and records of both",
    ),
    (
        "role-creates",
        "what it creates can stand in for a function or a table that others call by its bare name",
    ),
    (
        "role-temporary",
        "a temporary object comes first in the search path and stands in for the real one",
    ),
    (
        "session-preset",
        "sessions begin inside a tenant, as another role, with other functions before the system's, or without foreign keys",
    ),
    (
        "serving-setting",
        "the services were measured and their plans were tested with it; without it calls are planned anew or compiled",
    ),
    (
        "security-definer",
        "whoever calls it acts with the rights of its owner, whom policies may not bind to the caller's tenant",
    ),
    (
        "definer-search-path",
        "the caller puts a function or a table of its own before the one that is meant, and it runs with the owner's rights",
    ),
    (
        "definer-reaches-tenants",
        "listed functions are excused because they reach no tenant's row; this one does, with the rights of its owner",
    ),
    (
        "untrusted-function",
        "its code runs as the server itself and reads every file and every row",
    ),
    (
        "large-object",
        "large objects have no policies: every tenant's request can read one that everybody may",
    ),
    (
        "event-trigger",
        "it runs with the rights of whoever migrates, who may change policies and grants",
    ),
    (
        "leakproof-function",
        "it is evaluated before the policies, on rows that they would hide, and can tell what it saw",
    ),
    (
        "context-kept",
        "its caller goes on in the tenant that the function left behind",
    ),
    (
        "context-function",
        "every policy calls it: one that is not inlined costs a call for each row, and one with rights or settings of its own answers for somebody else",
    ),
    (
        "context-leftover",
        "the next borrower of this connection would act in that tenant",
    ),
    (
        "context-behavior",
        "every policy rests on it: without a tenant it must be null and never fail, or a pooled connection shows rows, or breaks, after its first commit",
    ),
    (
        "open-without-context",
        "a statement outside any tenant sees rows: one forgotten context is then a leak and no empty answer",
    ),
    (
        "session-role",
        "the rules were judged for the serving role; another role has other rights",
    ),
    ("session-unbound", "no policy binds this session"),
    (
        "session-row-security",
        "statements fail where a policy would bind them, which invites a role that policies do not bind",
    ),
    (
        "session-replication",
        "foreign keys and triggers are off in this session",
    ),
    (
        "version-floor",
        "releases below it have published faults that show rows past policies or run code of other roles",
    ),
    (
        "live-owner",
        "a session of the owner that serves requests can switch every policy off",
    ),
    (
        "live-disguised",
        "a pooler or a URL gives the service another role than the one whose rights were judged",
    ),
    (
        "live-outsider",
        "a session that is no service's: if it serves requests, no policy was judged for it, and none may bind it",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_rule_has_its_sentence_and_every_sentence_its_rule() {
        let explained: BTreeSet<_> = explained().iter().map(|it| it.rule).collect();
        let sentences: BTreeSet<_> = WHY.iter().map(|(rule, _)| *rule).collect();
        assert_eq!(explained, sentences);
        assert_eq!(sentences.len(), WHY.len(), "a rule is listed twice");
    }
}
