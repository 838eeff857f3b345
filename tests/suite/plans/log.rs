//! What PostgreSQL logged, read as executions: which statement, of which role, for which firm, what it read and returned.
//!
//! Invariant: an execution is of the firm whose id is among the parameters of the call that led to it, or of none.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::sources::spaced;

/// One run of one statement.
#[derive(Clone, Debug, Default)]
pub(super) struct Execution {
    /// Who was connected.
    pub(super) role: String,
    /// With single spaces.
    pub(super) sql: String,
    /// It ran after the mark.
    pub(super) is_measured: bool,
    /// Its session had not run it before: then it reads of the catalogs what its tables and indexes are.
    pub(super) is_first: bool,
    /// The number of the firm.
    pub(super) firm: Option<u16>,
    /// Pages found in memory or read.
    pub(super) buffers: f64,
    /// See [`rows`].
    pub(super) rows: f64,
    /// Settings that differ from the server's, as the planner had them.
    pub(super) settings: BTreeMap<String, String>,
    /// Whether it reads or writes a table of a service.
    pub(super) reads_tables: bool,
    /// By which conditions it does.
    pub(super) conditions: Vec<String>,
}

impl Execution {
    /// Whether it reads or writes rows as a serving role, which a firm's context bounds.
    pub(super) fn is_of_a_firm(&self) -> bool {
        self.reads_tables && self.role.ends_with("_app")
    }
}

/// All executions; those after the line that holds `mark` are measured. `firms` has the number of each firm by its id.
pub(super) fn executions(log: &str, mark: &str, firms: &BTreeMap<String, u16>) -> Vec<Execution> {
    let mut found = Vec::new();
    let mut called: BTreeMap<u64, Option<u16>> = BTreeMap::new();
    let mut is_measured = false;
    let mut ran = BTreeSet::new();
    for line in log.lines() {
        is_measured |= line.contains(mark);
        let entry: Value = serde_json::from_str(line).expect("the log is JSON");
        let text = |name: &str| entry[name].as_str().unwrap_or_default();
        let session = entry["pid"].as_u64().unwrap_or_default();
        let message = text("message");
        if let Some((_, plan)) = message.split_once("plan:\n") {
            let plan: Value = serde_json::from_str(plan).expect("a plan is JSON");
            let firm = called.get(&session).copied().flatten();
            if !is_of_catalogs(&plan["Plan"]) {
                let execution = execution(text("user"), firm, &plan);
                found.push(Execution {
                    is_measured,
                    is_first: ran.insert((session, execution.sql.clone())),
                    ..execution
                });
            }
        } else if message.starts_with("execute ") {
            called.insert(session, only_firm(text("detail"), firms));
        } else if message.starts_with("statement: ") {
            called.remove(&session);
        }
    }
    found
}

/// Whether nothing is read but what PostgreSQL keeps of itself: what a new connection asks the database about itself.
fn is_of_catalogs(plan: &Value) -> bool {
    let mut names = Vec::new();
    each_node(plan, &mut |node| {
        let of_node = ["Relation Name", "Index Name"].map(|name| node[name].as_str());
        names.extend(of_node.into_iter().flatten().map(str::to_owned));
    });
    !names.is_empty() && names.iter().all(|name| name.starts_with("pg_"))
}

/// The one firm that parameters name.
fn only_firm(parameters: &str, firms: &BTreeMap<String, u16>) -> Option<u16> {
    let mut named = firms.iter().filter(|(id, _)| parameters.contains(*id));
    let first = named.next()?;
    named.next().is_none().then_some(*first.1)
}

fn execution(role: &str, firm: Option<u16>, logged: &Value) -> Execution {
    let plan = &logged["Plan"];
    let count = |name: &str| plan[name].as_f64().unwrap_or_default();
    let settings = logged["Settings"].as_object().into_iter().flatten();
    let mut reads_tables = false;
    let mut conditions = Vec::new();
    each_node(plan, &mut |node| {
        let names = ["Index Cond", "Recheck Cond", "Filter"];
        let reads = node["Relation Name"].is_string() || node["Index Name"].is_string();
        let texts = names.iter().filter_map(|name| node[*name].as_str());
        conditions.extend(texts.filter(|_| reads).map(str::to_owned));
        reads_tables |= reads;
    });
    Execution {
        role: role.to_owned(),
        sql: spaced(logged["Query Text"].as_str().unwrap_or_default()),
        is_measured: false,
        is_first: false,
        firm,
        buffers: count("Shared Hit Blocks") + count("Shared Read Blocks"),
        rows: rows(plan).max(1.0),
        settings: settings
            .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
            .collect(),
        reads_tables,
        conditions,
    }
}

/// The rows that a statement is for: those it returns, those it writes, and of sums and counts those that are added up.
/// A count returns one row however much there is to count, so for it "per row returned" would ask that it read nothing.
fn rows(plan: &Value) -> f64 {
    let mut written: f64 = 0.0;
    let mut added_up: f64 = 0.0;
    each_node(plan, &mut |node| {
        let taken: f64 = children(node).map(output).sum();
        if node["Node Type"] == "ModifyTable" {
            written += taken;
        } else if node["Node Type"] == "Aggregate" {
            added_up = added_up.max(taken);
        }
    });
    output(plan).max(written).max(added_up)
}

fn output(node: &Value) -> f64 {
    let count = |name: &str| node[name].as_f64().unwrap_or_default();
    count("Actual Rows") * count("Actual Loops")
}

/// Where the rows of a node come from; not what is computed beside them.
fn children(node: &Value) -> impl Iterator<Item = &Value> {
    let all = node["Plans"].as_array().into_iter().flatten();
    all.filter(|child| {
        let relationship = child["Parent Relationship"].as_str();
        matches!(
            relationship,
            Some("Outer" | "Inner" | "Member" | "Subquery")
        )
    })
}

fn each_node(node: &Value, look: &mut impl FnMut(&Value)) {
    look(node);
    for child in node["Plans"].as_array().into_iter().flatten() {
        each_node(child, look);
    }
}
