//! No plan cliff: under the plans of service, on firms of very different size, no statement reads much more pages for a
//! row of one firm than for those of the others, and no statement of the services is left out of that.
//!
//! Every test judges the same evidence: the plans that PostgreSQL logged while the services did everything they do.

mod calls;
mod commands;
mod ground;
mod judge;
mod log;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::sync::OnceLock;

use catalyst::services;
use ground::{Ground, WHALE, tenant};
use judge::{Judgement, judge};
use log::{Execution, executions};
use sources::pieces;

/// The firms that call, the smallest first: a plan that depends on who asks first is made for them and used for the whale.
const FIRMS: [u16; 7] = [10, 20, 4, 5, 15, 9, WHALE];
/// The smallest of all calls before it is measured: the first execution on a connection reads catalogs as well.
const FIRST: u16 = 30;
/// Stands in the log where the measure begins.
const MARK: &str = "the measure begins";

/// Statements that are not measured for every firm, by how they begin, each with the reason.
const RARE: &[(&str, &str)] = &[
    (
        "insert into audit.chain ",
        "a log is begun once, and those of the firms are there",
    ),
    (
        "select count(*) from audit.flood ",
        "of callers without a token, who are of no firm",
    ),
];

/// Everything that ran after the mark.
fn measured() -> impl Iterator<Item = &'static Execution> {
    evidence().iter().filter(|it| it.is_measured)
}

/// Everything that ran.
fn evidence() -> &'static [Execution] {
    static EVIDENCE: OnceLock<Vec<Execution>> = OnceLock::new();
    EVIDENCE.get_or_init(|| {
        // The first of the tests measures for all, on a runtime that does not end with it.
        let measured = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(measure())
        });
        measured.join().expect("the services do what they do")
    })
}

async fn measure() -> Vec<Execution> {
    let ground = Ground::start().await;
    for firm in [FIRST].iter().chain(&FIRMS) {
        ground.lets_in(*firm).await;
    }
    does_everything(&ground, &[FIRST]).await;
    ground.marks(MARK).await;
    does_everything(&ground, &FIRMS).await;
    for firm in FIRMS {
        calls::watch(&ground, firm).await;
    }
    let log = ground.end().await;
    let numbers = FIRMS.iter().map(|firm| (tenant(*firm).to_string(), *firm));
    executions(&log, MARK, &numbers.collect())
}

async fn does_everything(ground: &Ground, firms: &[u16]) {
    ground.webhook.refuse(true);
    for firm in firms {
        let other = if *firm == WHALE { FIRST } else { WHALE };
        calls::make(ground, *firm, other).await;
    }
    ground.settles().await;
    ground.is_refused_by_the_sink().await;
    ground.webhook.refuse(false);
    commands::run(ground, firms).await;
    commands::fails_events(ground, firms).await;
    for firm in firms {
        let count = if [FIRST, WHALE].contains(firm) {
            1_000
        } else {
            100
        };
        commands::imports(ground, *firm, count).await;
    }
    ground.settles().await;
}

fn tree() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn no_statement_reads_much_more_for_a_row_of_one_firm_than_of_the_others() {
    let judged = judge(measured());
    let worst = judged.iter().filter(|it| it.is_compared());
    let worst: Vec<String> = worst.take(5).map(Judgement::told).collect();
    let count = judged.len();
    let _ = writeln!(std::io::stderr(), "{count} statements, the worst five:");
    let _ = writeln!(std::io::stderr(), "{}", worst.join("\n"));
    let cliffs = judged.iter().filter(|it| it.is_a_cliff());
    let cliffs: Vec<String> = cliffs.map(Judgement::told).collect();
    assert!(cliffs.is_empty(), "{}", cliffs.join("\n"));
}

#[test]
fn what_a_new_session_reads_of_the_catalogs_is_no_cliff_unless_it_is_all_there_is() {
    let ran = |firm, buffers, is_first| Execution {
        sql: "insert into audit.record".to_owned(),
        firm,
        buffers,
        is_first,
        rows: 1.0,
        ..Execution::default()
    };
    let others = [1, 2, 3].map(|firm| ran(Some(firm), 16.0, false));
    let judged = |more: &[Execution]| judge(others.iter().chain(more)).remove(0).is_a_cliff();
    assert!(!judged(&[ran(None, 162.0, true), ran(None, 16.0, false)]));
    assert!(judged(&[ran(None, 162.0, false), ran(None, 16.0, false)]));
    assert!(judged(&[ran(Some(4), 162.0, true)]));
}

#[test]
fn every_statement_of_the_services_is_measured() {
    let ran: BTreeSet<&str> = measured().map(|it| it.sql.as_str()).collect();
    let pieces = pieces(tree());
    let mut findings = Vec::new();
    for piece in &pieces {
        let is_rare = RARE.iter().any(|(text, _)| piece.text.starts_with(text));
        if !is_rare && !ran.iter().any(|sql| piece.is_in(sql)) {
            findings.push(format!(
                "{} is not measured: add a call that leads to it to tests/suite/plans/calls.rs: {}",
                piece.place, piece.text
            ));
        }
    }
    for sql in ran {
        if !pieces.iter().any(|piece| piece.begins(sql)) && !is_of_a_foreign_key(sql) {
            findings.push(format!(
                "not found in the sources, so teach tests/suite/plans/sources.rs how it is written there: {sql}"
            ));
        }
    }
    assert!(findings.is_empty(), "{}", findings.join("\n"));
}

#[test]
fn every_statement_of_a_firm_is_measured_for_the_whale_and_others() {
    let mut firms: BTreeMap<&str, BTreeSet<u16>> = BTreeMap::new();
    // Rows of the control plane are the platform's, whoever they tell of.
    for it in measured().filter(|it| it.is_of_a_firm() && it.role != "tenants_app") {
        firms.entry(&it.sql).or_default().extend(it.firm);
    }
    let lacking = firms.iter().filter(|(sql, firms)| {
        let is_rare = RARE.iter().any(|(text, _)| sql.starts_with(text));
        !is_rare && (!firms.contains(&WHALE) || firms.len() < 4)
    });
    let lacking: Vec<_> = lacking.collect();
    assert!(lacking.is_empty(), "{lacking:#?}");
}

/// PostgreSQL's own look for the row that a new one refers to.
fn is_of_a_foreign_key(sql: &str) -> bool {
    sql.starts_with("SELECT 1 FROM ONLY \"") && sql.ends_with(" FOR KEY SHARE OF x")
}

#[test]
fn every_statement_names_the_tenant() {
    let mut findings = BTreeSet::new();
    for it in measured().filter(|it| it.is_of_a_firm()) {
        // The policy's expression is what reaches an index only where the statement gives nothing better.
        let mut conditions = it.conditions.iter();
        let is_by_policy = conditions.any(|condition| condition.contains("current_setting("));
        if is_by_policy || !it.sql.contains("tenant_id") {
            findings.insert(format!(
                "{} leaves the tenant to the policy: {}",
                it.role, it.sql
            ));
        }
    }
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn what_was_measured_ran_as_in_service() {
    let mut settings: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for it in measured() {
        let found = format!("{:?}", it.settings);
        settings.entry(&it.role).or_default().insert(found);
    }
    let roles: BTreeSet<String> = settings.keys().map(|&it| it.to_owned()).collect();
    let schemas = services::ALL.iter().map(|it| it.schema);
    let serving = schemas.flat_map(|it| [format!("{it}_app"), format!("{it}_relay")]);
    let expected = serving.chain([::audit::OPERATOR.to_owned()]);
    assert_eq!(roles, expected.collect());
    for (role, found) in settings {
        for found in found {
            let in_service = r#""jit": "off", "plan_cache_mode": "force_generic_plan""#;
            assert!(found.contains(in_service), "{role}: {found}");
        }
    }
}

#[test]
fn a_statement_is_found_however_it_is_written() {
    let source = r#"
        //! Not "select this".
        #[tracing::instrument(name = "select nor this")]
        macro_rules! select { ($it:literal) => { concat!("select id \
             from ledger.entry where ", $it) } }
        fn list() { sqlx::query_as(select!("tenant_id = $1 and id > $2")); }
        fn bury(schema: &str) { format!("insert into {schema}.tombstone values ($1)"); }
        fn search() { query.push(" and r.severity >= ").push_bind("high").push(")"); }
        #[cfg(test)]
        mod tests { const NEITHER: &str = "select 1"; }
    "#;
    let found = sources::of_rust("store.rs", source);
    let texts: Vec<&str> = found.iter().map(|it| it.text.as_str()).collect();
    let expected = [
        "select id from ledger.entry where",
        "tenant_id = $1 and id > $2",
        "insert into {schema}.tombstone values ($1)",
        "and r.severity >=",
    ];
    assert_eq!(texts, expected);
    let insert = found.get(2).expect("the third");
    assert!(insert.begins("insert into audit.tombstone values ($1)"));
    assert!(!insert.is_in("insert into audit.tombstone (id) values ($1)"));

    let function = "create function a.b() returns void language plpgsql\nas $$\nbegin\n    \
                    perform set_config('x', y, true);\n    return query select * from a.c;\nend\n$$;";
    let found = sources::of_functions("a.sql", function);
    let texts: Vec<&str> = found.iter().map(|it| it.text.as_str()).collect();
    assert_eq!(
        texts,
        ["SELECT set_config('x', y, true)", "select * from a.c"]
    );
}

#[test]
fn a_statement_that_reads_all_rows_of_the_whale_is_found() {
    let ran = |firm: u16, buffers: f64, rows: f64| Execution {
        firm: Some(firm),
        buffers,
        rows,
        ..Execution::default()
    };
    let is_a_cliff = |whale: Execution| {
        let all: Vec<_> = (2..6)
            .map(|firm| ran(firm, 4.0, 1.0))
            .chain([whale])
            .collect();
        judge(all.iter()).iter().any(Judgement::is_a_cliff)
    };
    assert!(is_a_cliff(ran(1, 300.0, 1.0)));
    assert!(is_a_cliff(ran(1, 800.0, 50.0)));
    // Below the floor, and for as many rows.
    assert!(!is_a_cliff(ran(1, 70.0, 1.0)));
    assert!(!is_a_cliff(ran(1, 300.0, 50.0)));
    let of_all = |buffers| Execution {
        firm: None,
        ..ran(0, buffers, 1.0)
    };
    assert!(
        judge([of_all(500.0)].iter())
            .iter()
            .any(Judgement::is_a_cliff)
    );
}
