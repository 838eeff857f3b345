//! Each way to tamper with a log is found, with the first bad record named.

use kit::TenantId;
use kit::ctx::Actor;
use proptest::prelude::*;
use proto::common::v1::Severity;
use time::Duration;
use uuid::Uuid;

use super::*;
use crate::checkpoint::{Checkpoints, Tip};
use crate::export::Exported;
use crate::record::{Category, Entry, Log, Record};
use proto::audit::v1 as pb;

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn acme() -> LogKey {
    LogKey {
        tenant: TenantId::new(Uuid::from_u128(1)),
        log: Log::Tenant,
    }
}

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
        resource: None,
        occurred_at: NOW,
        traceparent: None,
        body: vec![1, 2, 3].into(),
    }
}

/// Entries as the log that they make.
fn chained(entries: impl IntoIterator<Item = Entry>) -> Vec<Record> {
    let key = acme();
    Head::START
        .clone()
        .append(key.tenant, key.log, NOW, entries)
}

fn log(length: u128) -> Vec<Record> {
    chained((1..=length).map(entry))
}

fn entries(records: &[Record]) -> Vec<Entry> {
    records.iter().map(|record| record.entry.clone()).collect()
}

fn message(record: &Record) -> pb::ExportedRecord {
    let entry = &record.entry;
    pb::ExportedRecord {
        tenant_id: record.tenant.to_string(),
        operator_only: record.log.is_operator_only(),
        sequence: record.sequence,
        record_time: Some(kit::fields::timestamp(record.recorded_at)),
        id: entry.id.to_string(),
        event_id: entry.event_id.to_string(),
        r#type: entry.type_name.clone(),
        category: entry.category.as_str().to_owned(),
        severity: entry.severity.into(),
        actor_type: entry.actor.kind().to_owned(),
        actor_id: entry.actor.id().to_owned(),
        source: entry.source.clone(),
        aggregate_id: entry.aggregate_id.to_string(),
        version: entry.version,
        resource_kind: String::new(),
        resource_id: String::new(),
        occur_time: Some(kit::fields::timestamp(entry.occurred_at)),
        traceparent: None,
        body: entry.body.to_vec(),
        hash: record.hash.to_vec(),
    }
}

/// Signed after each of these records of the log.
fn checked(records: &[Record], at: &[usize]) -> Checked {
    let key = crate::checkpoint::tests::key();
    let keys = key.public();
    let mut tip = Tip::default();
    let mut checkpoints = Checkpoints::new(&keys, None, None);
    for length in at {
        let record = &records[length - 1];
        let head = Head {
            sequence: record.sequence,
            hash: record.hash,
        };
        let checkpoint = tip.next(NOW, &[(acme(), head)], 1);
        let signed = key.sign(&checkpoint).unwrap();
        tip.move_to(checkpoint.number, &signed);
        checkpoints.check(&signed);
    }
    checkpoints.finish(None)
}

/// What is found of records after checkpoints of others.
fn judge(found: &[Record], mut checked: Checked, settled: OffsetDateTime) -> Option<BadRecord> {
    assert_eq!(checked.faults, []);
    let mut trail = Trail::new(&mut checked, settled);
    let mut before = None;
    for record in found {
        let message = message(record);
        // Through the line of an export and back.
        let line = serde_json::to_string(&Exported::of(&message).unwrap()).unwrap();
        let exported: Exported<'_> = serde_json::from_str(&line).unwrap();
        let link = exported.link(before.as_ref());
        trail.check(&link);
        before = Some(link.place);
    }
    let reports = trail.finish();
    assert!(reports.len() <= 1);
    reports.first().and_then(|report| report.bad)
}

fn verdict(found: &[Record], of: &[Record], signed_at: &[usize]) -> Option<BadRecord> {
    judge(found, checked(of, signed_at), NOW)
}

#[test]
fn a_log_that_was_left_alone_is_good_and_may_have_grown_past_its_checkpoints() {
    let records = log(9);
    assert_eq!(verdict(&records, &records, &[3, 7]), None);
    assert_eq!(verdict(&records, &records, &[]), None);
}

#[test]
fn a_changed_record_is_named() {
    let records = log(9);
    let mut found = records.clone();
    found[4].entry.actor = Actor::User("lee".to_owned());
    assert_eq!(
        verdict(&found, &records, &[3, 7]),
        Some(bad(5, RecordFault::Changed))
    );
}

#[test]
fn a_record_put_between_others_is_named() {
    let records = log(9);
    let mut found = records.clone();
    let mut forged = records[4].clone();
    forged.entry = entry(77);
    found.insert(4, forged);
    for (record, sequence) in found.iter_mut().zip(1..) {
        record.sequence = sequence;
    }
    assert_eq!(
        verdict(&found, &records, &[3, 7]),
        Some(bad(5, RecordFault::Changed))
    );
}

#[test]
fn a_removed_record_is_named() {
    let records = log(9);
    let mut found = records.clone();
    found.remove(4);
    assert_eq!(
        verdict(&found, &records, &[3, 7]),
        Some(bad(5, RecordFault::Missing))
    );
}

#[test]
fn a_log_cut_at_its_end_is_found_and_the_first_lost_record_named() {
    let records = log(9);
    let cut = RecordFault::Cut {
        until: 9,
        checkpoint: 2,
    };
    assert_eq!(
        verdict(&records[..5], &records, &[3, 7, 9]),
        Some(bad(6, cut))
    );
}

#[test]
fn a_log_that_is_gone_is_missing_from_its_first_record_on() {
    let records = log(9);
    let cut = RecordFault::Cut {
        until: 7,
        checkpoint: 1,
    };
    assert_eq!(verdict(&[], &records, &[3, 7]), Some(bad(1, cut)));
}

#[test]
fn a_log_written_anew_from_its_start_is_found_by_the_first_checkpoint() {
    let records = log(9);
    let forged = chained((11..=19).map(entry));
    let rewritten = RecordFault::Rewritten {
        until: 3,
        checkpoint: 1,
    };
    assert_eq!(verdict(&forged, &records, &[3, 7]), Some(bad(1, rewritten)));
}

#[test]
fn a_restored_backup_that_went_another_way_is_found_where_it_left() {
    let records = log(9);
    let restored = entries(&records[..5]);
    let other = chained(restored.into_iter().chain((21..=29).map(entry)));
    let rewritten = RecordFault::Rewritten {
        until: 7,
        checkpoint: 2,
    };
    assert_eq!(verdict(&other, &records, &[5, 7]), Some(bad(6, rewritten)));
}

#[test]
fn an_old_record_that_no_checkpoint_covers_shows_that_the_last_ones_are_gone() {
    let records = log(9);
    let later = NOW + Duration::HOUR;
    assert_eq!(
        judge(&records, checked(&records, &[3, 7]), later),
        Some(bad(8, RecordFault::Uncovered))
    );
    assert_eq!(judge(&records, checked(&records, &[3, 9]), later), None);
}

#[test]
fn a_value_that_no_record_has_is_a_change() {
    let records = log(3);
    let mut message = message(&records[0]);
    message.actor_type = "users".to_owned();
    let link = Exported::of(&message).unwrap().link(None);
    assert!(!link.follows);
}

proptest! {
    #[test]
    fn swapped_records_are_found_at_the_first_of_them(a in 0_usize..12, b in 0_usize..12) {
        prop_assume!(a < b);
        let records = log(12);
        let mut found = records.clone();
        found.swap(a, b);
        let first = i64::try_from(a).unwrap() + 1;
        prop_assert_eq!(verdict(&found, &records, &[4, 12]), Some(bad(first, RecordFault::Missing)));
        // With their sequences swapped as well, what stands in the first place is not what was hashed there.
        for (record, sequence) in found.iter_mut().zip(1..) {
            record.sequence = sequence;
        }
        prop_assert_eq!(verdict(&found, &records, &[4, 12]), Some(bad(first, RecordFault::Changed)));
    }

    #[test]
    fn no_rewrite_below_a_checkpoint_passes(at in 0_usize..10, signed in 1_usize..10) {
        let records = log(10);
        let mut changed = entries(&records);
        changed[at].version += 1;
        let forged = chained(changed);
        let found = verdict(&forged, &records, &[signed]);
        prop_assert_eq!(found.is_some(), at < signed);
    }
}
