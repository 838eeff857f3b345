//! Each invariant is shown a run that keeps it and one that breaks it: a checker that cannot fail proves nothing.

use kit::TenantId;
use tonic::Code;
use uuid::Uuid;

use super::*;
use crate::evidence::{Reference, Row, Stored};
use crate::history::{Change, Firm, Operation, Probe, ProbeKind};

const OURS: TenantId = TenantId::new(Uuid::from_u128(1));
const OTHERS: TenantId = TenantId::new(Uuid::from_u128(2));
const CLIENT: Uuid = Uuid::from_u128(10);
const CONSULTANT: Uuid = Uuid::from_u128(11);

fn write(noun: Noun, aggregate: Uuid, change: Change, version: i64) -> Operation {
    Operation {
        tenant: OURS,
        noun,
        change,
        aggregate,
        version,
        text: format!("text {version}"),
        request_id: Uuid::from_u128(100 + u128::from(version.unsigned_abs())),
        attempts: 1,
        unknown: 0,
        outcome: Outcome::Ok,
        answered: (change != Change::Delete).then_some(version),
        first: Some(7),
        other_answers: 0,
    }
}

fn event(aggregate: Uuid, version: i64) -> Uuid {
    Uuid::from_u128(1_000 + aggregate.as_u128() * 10 + u128::from(version.unsigned_abs()))
}

/// A client that was created and changed twice, a consultant that was created, and a refused attempt: all in order.
fn sound() -> (History, Evidence) {
    let firm = |id, canary: &str| Firm {
        id,
        canary: canary.to_owned(),
    };
    let history = History {
        firms: vec![firm(OURS, "canary-our"), firm(OTHERS, "canary-their")],
        operations: vec![
            write(Noun::Client, CLIENT, Change::Create, 1),
            write(Noun::Client, CLIENT, Change::Update, 2),
            write(Noun::Client, CLIENT, Change::Update, 3),
            write(Noun::Consultant, CONSULTANT, Change::Create, 1),
        ],
        probes: vec![Probe {
            tenant: OURS,
            actor: "probe".to_owned(),
            kind: ProbeKind::OtherTenant,
            answer: Some(Code::PermissionDenied),
        }],
        ..History::default()
    };
    let row = |noun, id, version| Row {
        tenant: OURS,
        noun,
        id,
        version,
        text: format!("text {version}"),
    };
    let told = [(CLIENT, 1), (CLIENT, 2), (CONSULTANT, 1), (CLIENT, 3)];
    let stream = (1..)
        .zip(told)
        .map(|(sequence, (aggregate, version))| Stored {
            sequence,
            tenant: OURS,
            event: event(aggregate, version),
            aggregate,
            version,
            canaries: vec!["canary-our".to_owned()],
        });
    let record = |sequence, event, type_name: &str, aggregate, version| Recorded {
        tenant: OURS,
        operator_only: false,
        sequence,
        event,
        type_name: type_name.to_owned(),
        is_domain: type_name == "Changed",
        actor: if type_name == "Changed" {
            "worker"
        } else {
            "probe"
        }
        .to_owned(),
        aggregate,
        version,
        canaries: Vec::new(),
    };
    let mut records: Vec<_> = (1..)
        .zip(told)
        .map(|(at, (id, version))| record(at, event(id, version), "Changed", id, version))
        .collect();
    let refused = Uuid::from_u128(5_000);
    records.push(record(
        5,
        refused,
        ProbeKind::OtherTenant.event(),
        refused,
        1,
    ));
    let evidence = Evidence {
        rows: vec![
            row(Noun::Client, CLIENT, 3),
            row(Noun::Consultant, CONSULTANT, 1),
        ],
        references: vec![Reference {
            keeper: "projects",
            tenant: OURS,
            noun: Noun::Consultant,
            id: CONSULTANT,
            version: 1,
        }],
        stream: stream.collect(),
        records,
        ..Evidence::default()
    };
    (history, evidence)
}

/// What is found in the sound run once it is changed.
fn found(change: impl FnOnce(&mut History, &mut Evidence)) -> Vec<Invariant> {
    let (mut history, mut evidence) = sound();
    change(&mut history, &mut evidence);
    let breaches = check(&history, &evidence).breaches;
    let mut found: Vec<_> = breaches.iter().map(|breach| breach.invariant).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[test]
fn a_run_in_order_breaks_nothing_and_is_counted() {
    let (history, evidence) = sound();
    let verdict = check(&history, &evidence);
    assert_eq!(verdict.breaches, []);
    let tally = verdict.tally;
    assert_eq!((tally.acknowledged, tally.events, tally.probes), (4, 4, 1));
}

#[test]
fn a_duplicate_on_the_wire_is_counted_and_allowed() {
    let (history, mut evidence) = sound();
    let again = Stored {
        sequence: 5,
        ..evidence.stream[0].clone()
    };
    evidence.stream.push(again);
    let verdict = check(&history, &evidence);
    assert_eq!((verdict.breaches.len(), verdict.tally.duplicates), (0, 1));
}

#[test]
fn an_acknowledged_write_that_is_lost_anywhere_breaks_i1() {
    assert_eq!(found(|_, it| drop(it.rows.remove(0))), [Invariant::I1]);
    assert_eq!(found(|_, it| it.rows[0].version = 2), [Invariant::I1]);
    assert_eq!(
        found(|_, it| it.rows[0].text = "text 2".to_owned()),
        [Invariant::I1]
    );
    assert_eq!(found(|_, it| drop(it.stream.pop())), [Invariant::I1]);
    assert_eq!(found(|_, it| drop(it.records.remove(3))), [Invariant::I1]);
    assert_eq!(
        found(|it, _| it.stale_reads.push("old".to_owned())),
        [Invariant::I1]
    );
    let deleted = |it: &mut History| {
        it.operations[3] = write(Noun::Consultant, CONSULTANT, Change::Delete, 1);
    };
    assert_eq!(found(|it, _| deleted(it)), [Invariant::I1]);
}

#[test]
fn an_event_or_a_copy_without_a_write_breaks_i2() {
    let ghost = |it: &mut Evidence, tenant, aggregate, version| {
        let stored = Stored {
            tenant,
            aggregate,
            version,
            event: Uuid::from_u128(77),
            canaries: Vec::new(),
            ..it.stream[0].clone()
        };
        it.stream.push(stored);
    };
    assert_eq!(
        found(|_, it| ghost(it, OURS, Uuid::from_u128(99), 1)),
        [Invariant::I2]
    );
    assert!(found(|_, it| ghost(it, OURS, CLIENT, 4)).contains(&Invariant::I2));
    assert!(found(|_, it| ghost(it, OTHERS, CLIENT, 2)).contains(&Invariant::I2));
    let kept = |it: &mut Evidence| it.references[0].id = Uuid::from_u128(99);
    assert_eq!(found(|_, it| kept(it)), [Invariant::I2]);
    let forged = |history: &mut History, it: &mut Evidence| {
        ghost(it, OURS, Uuid::from_u128(99), 1);
        history.forged.push(Uuid::from_u128(77));
    };
    assert_eq!(found(forged), []);
}

#[test]
fn a_second_effect_breaks_i3() {
    assert!(found(|_, it| it.rows[0].version = 4).contains(&Invariant::I3));
    assert!(found(|it, _| it.operations[2].answered = Some(4)).contains(&Invariant::I3));
    let twin = |it: &mut Evidence| {
        let row = Row {
            id: Uuid::from_u128(99),
            ..it.rows[0].clone()
        };
        it.rows.push(row);
    };
    assert_eq!(found(|_, it| twin(it)), [Invariant::I3]);
    let told_twice = |it: &mut Evidence| {
        let stored = Stored {
            event: Uuid::from_u128(77),
            ..it.stream[1].clone()
        };
        it.stream.push(stored);
    };
    assert!(found(|_, it| told_twice(it)).contains(&Invariant::I3));
    let recorded_twice = |it: &mut Evidence| {
        let record = Recorded {
            sequence: 9,
            ..it.records[2].clone()
        };
        it.records.push(record);
    };
    assert!(found(|_, it| recorded_twice(it)).contains(&Invariant::I3));
}

#[test]
fn versions_out_of_order_break_i4() {
    assert_eq!(found(|_, it| it.stream.swap(0, 1)), [Invariant::I4]);
    let recorded = |it: &mut Evidence| {
        it.records[0].sequence = 2;
        it.records[1].sequence = 1;
    };
    assert_eq!(found(|_, it| recorded(it)), [Invariant::I4]);
    assert_eq!(found(|_, it| it.references[0].version = 0), [Invariant::I4]);
}

#[test]
fn a_canary_of_another_firm_breaks_i5_in_whatever_output() {
    let their = || "canary-their".to_owned();
    assert_eq!(
        found(|it, _| it.foreign_canaries.push(their())),
        [Invariant::I5]
    );
    assert_eq!(
        found(|_, it| it.stream[0].canaries.push(their())),
        [Invariant::I5]
    );
    assert_eq!(
        found(|_, it| it.records[0].canaries.push(their())),
        [Invariant::I5]
    );
    assert_eq!(
        found(|_, it| it.security_canaries.push((OURS, their()))),
        [Invariant::I5]
    );
    let for_operators = |it: &mut Evidence| {
        it.records[4].canaries.push(their());
        it.records[4].operator_only = true;
    };
    assert_eq!(found(|_, it| for_operators(it)), []);
}

#[test]
fn an_outcome_that_stays_open_and_a_second_answer_break_i6() {
    assert_eq!(
        found(|it, _| it.operations[2].other_answers = 1),
        [Invariant::I6]
    );
    assert!(found(|it, _| it.operations[2].outcome = Outcome::Unknown).contains(&Invariant::I6));
    let refused = Outcome::Refused(Code::Internal, "an internal error".to_owned());
    assert!(found(|it, _| it.operations[2].outcome = refused).contains(&Invariant::I6));
}

#[test]
fn a_refusal_that_is_not_on_record_once_breaks_i7() {
    assert_eq!(found(|_, it| drop(it.records.pop())), [Invariant::I7]);
    let twice = |it: &mut Evidence| {
        let record = Recorded {
            sequence: 6,
            event: Uuid::from_u128(5_001),
            ..it.records[4].clone()
        };
        it.records.push(record);
    };
    assert_eq!(found(|_, it| twice(it)), [Invariant::I7]);
    assert_eq!(
        found(|it, _| it.probes[0].answer = Some(Code::Ok)),
        [Invariant::I7]
    );
    let without_an_answer = |history: &mut History, evidence: &mut Evidence| {
        history.probes[0].answer = None;
        evidence.records.pop();
    };
    assert_eq!(found(without_an_answer), []);
    assert_eq!(
        found(|history, evidence| {
            history.probes[0].answer = None;
            twice(evidence);
        }),
        [Invariant::I7]
    );
}

#[test]
fn a_bad_trail_breaks_i8_and_unrest_i9_and_a_row_in_two_places_i10() {
    assert_eq!(
        found(|_, it| it.trail = Some("record 3".to_owned())),
        [Invariant::I8]
    );
    let waits = "projects.outbox: 3 rows".to_owned();
    assert_eq!(found(|_, it| it.unsettled.push(waits)), [Invariant::I9]);
    assert_eq!(found(|_, it| it.open_transactions = 1), [Invariant::I9]);
    let twice = |it: &mut Evidence| it.rows.push(it.rows[0].clone());
    assert_eq!(found(|_, it| twice(it)), [Invariant::I10]);
}
