//! The hash chain of a log: how records are chained, and who finds the first that was tampered with. Pure.
//!
//! Invariant: a record's hash covers every stored field of it and the hash before it, so that to change, remove, insert
//! or move a record changes every hash after it.

use aws_lc_rs::digest::{Context, SHA256};
use kit::TenantId;
use time::OffsetDateTime;

use crate::record::{Entry, Log, Record};

/// Separates these hashes from all others, and names the form of what is hashed.
const FORM: &[u8] = b"catalyst.audit.record.v1";

/// The end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The sequence of the last record; 0 before the first.
    pub sequence: i64,
    /// Its hash; zeros before the first.
    pub hash: [u8; 32],
}

impl Head {
    /// The end of an empty log.
    pub const START: Self = Self {
        sequence: 0,
        hash: [0; 32],
    };

    /// Gives entries their places, in their order, and moves to the last of them.
    pub fn append(
        &mut self,
        tenant: TenantId,
        log: Log,
        recorded_at: OffsetDateTime,
        entries: impl IntoIterator<Item = Entry>,
    ) -> Vec<Record> {
        let chained = entries.into_iter().map(|entry| {
            let sequence = self.sequence + 1;
            let mut record = Record {
                tenant,
                log,
                sequence,
                recorded_at,
                hash: [0; 32],
                entry,
            };
            record.hash = hash(&self.hash, &record);
            *self = Self {
                sequence,
                hash: record.hash,
            };
            record
        });
        chained.collect()
    }
}

/// The first entry of a log that is not what was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// There is another record, or none, where this one belongs.
    #[error("record {sequence} is missing, or another one is in its place")]
    Missing {
        /// The sequence that was expected.
        sequence: i64,
    },
    /// The record, or one before it, is not the one that was hashed.
    #[error("record {sequence} was changed")]
    Changed {
        /// The sequence of the record.
        sequence: i64,
    },
}

/// Checks a log from its first record on, in order, in as many pieces as it is read in.
#[derive(Clone, Copy, Debug)]
pub struct Verifier {
    tenant: TenantId,
    log: Log,
    head: Head,
}

impl Verifier {
    /// Begins before the first record of a log.
    pub fn new(tenant: TenantId, log: Log) -> Self {
        Self {
            tenant,
            log,
            head: Head::START,
        }
    }

    /// Checks the next record.
    pub fn check(&mut self, record: &Record) -> Result<(), BadEntry> {
        let sequence = self.head.sequence + 1;
        if record.sequence != sequence || record.tenant != self.tenant || record.log != self.log {
            return Err(BadEntry::Missing { sequence });
        }
        if !follows(&self.head.hash, record) {
            return Err(BadEntry::Changed { sequence });
        }
        self.head = Head {
            sequence,
            hash: record.hash,
        };
        Ok(())
    }

    /// Checks that the log has not lost its end: `known` is a head that was seen before, or the stored one.
    /// A log may have grown past it; the caller stops at its sequence.
    pub fn ends_at(&self, known: Head) -> Result<(), BadEntry> {
        if self.head.sequence < known.sequence {
            return Err(BadEntry::Missing {
                sequence: self.head.sequence + 1,
            });
        }
        if self.head == known {
            Ok(())
        } else {
            Err(BadEntry::Changed {
                sequence: known.sequence,
            })
        }
    }
}

/// Whether the hash of a record is the one that it must have after `before`.
pub fn follows(before: &[u8; 32], record: &Record) -> bool {
    record.hash == hash(before, record)
}

/// SHA-256 of the hash before, and of every field with its length, so that no two records are the same bytes.
fn hash(before: &[u8; 32], record: &Record) -> [u8; 32] {
    let entry = &record.entry;
    let mut hasher = Hasher(Context::new(&SHA256));
    hasher.bytes(FORM);
    hasher.bytes(before);
    hasher.bytes(record.tenant.uuid().as_bytes());
    hasher.number(i64::from(record.log.is_operator_only()));
    hasher.number(record.sequence);
    hasher.instant(record.recorded_at);
    hasher.bytes(entry.id.as_bytes());
    hasher.bytes(entry.event_id.as_bytes());
    hasher.bytes(entry.type_name.as_bytes());
    hasher.bytes(entry.category.as_str().as_bytes());
    hasher.number(i64::from(i32::from(entry.severity)));
    hasher.bytes(entry.actor.kind().as_bytes());
    hasher.bytes(entry.actor.id().as_bytes());
    hasher.bytes(entry.source.as_bytes());
    hasher.bytes(entry.aggregate_id.as_bytes());
    hasher.number(entry.version);
    let (kind, id) = entry
        .resource
        .as_ref()
        .map_or(("", None), |it| (it.kind.as_str(), it.id));
    hasher.bytes(kind.as_bytes());
    hasher.bytes(id.as_ref().map_or(&[], |id| id.as_bytes().as_slice()));
    hasher.instant(entry.occurred_at);
    hasher.bytes(entry.traceparent.as_deref().unwrap_or_default().as_bytes());
    hasher.bytes(&entry.body);
    let mut hash = [0; 32];
    hash.copy_from_slice(hasher.0.finish().as_ref());
    hash
}

struct Hasher(Context);

impl Hasher {
    fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    fn number(&mut self, number: i64) {
        self.0.update(&number.to_be_bytes());
    }

    /// In microseconds, which is what the database keeps.
    fn instant(&mut self, at: OffsetDateTime) {
        self.0
            .update(&(at.unix_timestamp_nanos() / 1_000).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use kit::ctx::Actor;
    use proptest::prelude::*;
    use proto::common::v1::Severity;
    use uuid::Uuid;

    use super::*;
    use crate::record::{Category, Resource};

    const ACME: TenantId = TenantId::new(Uuid::from_u128(1));
    const ORBIT: TenantId = TenantId::new(Uuid::from_u128(2));

    fn entry(n: u128) -> Entry {
        Entry {
            id: Uuid::from_u128(n),
            event_id: Uuid::from_u128(1_000 + n),
            type_name: "catalyst.projects.v1.ProjectCreated".to_owned(),
            category: Category::Domain,
            severity: Severity::Info,
            actor: Actor::User("kim".to_owned()),
            source: "projects".to_owned(),
            aggregate_id: Uuid::from_u128(2_000 + n),
            version: 1,
            resource: Some(Resource {
                kind: "project".to_owned(),
                id: Some(Uuid::from_u128(2_000 + n)),
            }),
            occurred_at: OffsetDateTime::UNIX_EPOCH,
            traceparent: None,
            body: vec![1, 2, 3].into(),
        }
    }

    fn log(tenant: TenantId, length: u128) -> (Vec<Record>, Head) {
        let mut head = Head::START;
        let records = head.append(
            tenant,
            Log::Tenant,
            OffsetDateTime::UNIX_EPOCH,
            (1..=length).map(entry),
        );
        (records, head)
    }

    fn verify(records: &[Record], head: Head) -> Result<(), BadEntry> {
        let mut verifier = Verifier::new(ACME, Log::Tenant);
        records
            .iter()
            .try_for_each(|record| verifier.check(record))?;
        verifier.ends_at(head)
    }

    #[test]
    fn a_log_that_was_left_alone_is_good_however_it_was_appended() {
        let (records, head) = log(ACME, 9);
        assert_eq!(verify(&records, head), Ok(()));
        let mut pieces = Head::START;
        let mut appended = pieces.append(
            ACME,
            Log::Tenant,
            OffsetDateTime::UNIX_EPOCH,
            (1..=4).map(entry),
        );
        appended.extend(pieces.append(
            ACME,
            Log::Tenant,
            OffsetDateTime::UNIX_EPOCH,
            (5..=9).map(entry),
        ));
        assert_eq!((appended, pieces), (records, head));
    }

    #[test]
    fn a_changed_field_is_found_whichever_it_is() {
        let changes: [fn(&mut Record); 15] = [
            |record| record.recorded_at += time::Duration::MICROSECOND,
            |record| record.entry.id = Uuid::nil(),
            |record| record.entry.event_id = Uuid::nil(),
            |record| record.entry.type_name.push('x'),
            |record| record.entry.category = Category::Security,
            |record| record.entry.severity = Severity::Low,
            |record| record.entry.actor = Actor::Service("kim".to_owned()),
            |record| record.entry.actor = Actor::User("lee".to_owned()),
            |record| record.entry.source.push('x'),
            |record| record.entry.aggregate_id = Uuid::nil(),
            |record| record.entry.version = 2,
            |record| record.entry.resource = None,
            |record| record.entry.occurred_at -= time::Duration::MICROSECOND,
            |record| record.entry.traceparent = Some("00-1".to_owned()),
            |record| record.entry.body = vec![1, 2].into(),
        ];
        for (i, change) in changes.into_iter().enumerate() {
            let (mut records, head) = log(ACME, 9);
            change(&mut records[4]);
            assert_eq!(
                verify(&records, head),
                Err(BadEntry::Changed { sequence: 5 }),
                "change {i}"
            );
        }
    }

    #[test]
    fn text_that_moves_from_one_field_to_the_next_is_found() {
        let (mut records, head) = log(ACME, 3);
        records[1].entry.source = "project".to_owned();
        records[1].entry.actor = Actor::User("kims".to_owned());
        assert_eq!(
            verify(&records, head),
            Err(BadEntry::Changed { sequence: 2 })
        );
    }

    #[test]
    fn a_removed_record_is_found() {
        let (mut records, head) = log(ACME, 9);
        records.remove(4);
        assert_eq!(
            verify(&records, head),
            Err(BadEntry::Missing { sequence: 5 })
        );
    }

    #[test]
    fn a_removed_record_whose_followers_were_renumbered_is_found() {
        let (mut records, head) = log(ACME, 9);
        records.remove(4);
        for (record, sequence) in records.iter_mut().zip(1..) {
            record.sequence = sequence;
        }
        assert_eq!(
            verify(&records, head),
            Err(BadEntry::Changed { sequence: 5 })
        );
    }

    #[test]
    fn a_record_that_was_written_anew_is_found_at_its_follower() {
        let (mut records, head) = log(ACME, 9);
        let mut forged = Head {
            sequence: 4,
            hash: records[3].hash,
        };
        let at = OffsetDateTime::UNIX_EPOCH;
        let other = forged.append(ACME, Log::Tenant, at, [entry(99)]);
        records.splice(4..5, other);
        assert_eq!(
            verify(&records, head),
            Err(BadEntry::Changed { sequence: 6 })
        );
    }

    #[test]
    fn a_log_cut_at_its_end_is_found() {
        let (mut records, head) = log(ACME, 9);
        records.truncate(7);
        assert_eq!(
            verify(&records, head),
            Err(BadEntry::Missing { sequence: 8 })
        );
    }

    #[test]
    fn a_log_written_anew_is_found_by_a_head_that_was_known() {
        let (_, known) = log(ACME, 9);
        let mut head = Head::START;
        let forged = head.append(
            ACME,
            Log::Tenant,
            OffsetDateTime::UNIX_EPOCH,
            (11..=19).map(entry),
        );
        assert_eq!(verify(&forged, head), Ok(()));
        assert_eq!(
            verify(&forged, known),
            Err(BadEntry::Changed { sequence: 9 })
        );
    }

    #[test]
    fn another_tenants_log_does_not_pass_for_this_ones() {
        let (records, head) = log(ORBIT, 3);
        assert_eq!(
            verify(&records, head),
            Err(BadEntry::Missing { sequence: 1 })
        );
        let (mut records, head) = log(ORBIT, 3);
        for record in &mut records {
            record.tenant = ACME;
        }
        assert_eq!(
            verify(&records, head),
            Err(BadEntry::Changed { sequence: 1 })
        );
    }

    proptest! {
        #[test]
        fn swapping_two_records_is_found_at_the_first_of_them(a in 0_usize..20, b in 0_usize..20) {
            prop_assume!(a < b);
            let (mut records, head) = log(ACME, 20);
            records.swap(a, b);
            let first = i64::try_from(a).unwrap() + 1;
            prop_assert_eq!(verify(&records, head), Err(BadEntry::Missing { sequence: first }));
        }

        #[test]
        fn a_changed_hash_is_found_where_it_is(at in 0_usize..20, byte in 0_usize..32, bit in 0_u8..8) {
            let (mut records, head) = log(ACME, 20);
            records[at].hash[byte] ^= 1 << bit;
            let sequence = i64::try_from(at).unwrap() + 1;
            prop_assert_eq!(verify(&records, head), Err(BadEntry::Changed { sequence }));
        }
    }
}
