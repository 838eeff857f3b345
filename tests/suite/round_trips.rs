//! Round trips to the database, counted on the wire: a hot read is exactly one Sync, and what else a call costs is known,
//! so that no round trip comes back unnoticed.
//!
//! A Sync or a Query is a round trip: the service waits for its answer before it goes on.

mod meter;

use std::collections::BTreeSet;
use std::path::Path;

use harness::{Caller, Firm, Replica, within, world};
use proto::consultants::v1 as consultants;
use proto::projects::v1 as projects;
use tonic::Status;

use kit::ctx::Clock;
use meter::{Message, Meter};

/// Calls that are counted together: each must cost the same.
const CALLS: usize = 10;
/// How often they are counted anew, since the service has work of its own and two connections to warm.
const ROUNDS: usize = 20;
/// The files with reads of one round trip, each of which has its line in `a_hot_read_is_one_sync`.
const HOT_READS: [&str; 2] = ["consultants/src/store.rs", "projects/src/store/project.rs"];

/// What one call sends to the database.
#[derive(Debug, PartialEq, Eq)]
struct Cost {
    /// Statements whose plan is there.
    syncs: usize,
    /// Begin, commit and rollback.
    queries: usize,
}

const fn cost(syncs: usize, queries: usize) -> Cost {
    Cost { syncs, queries }
}

/// A replica whose connections to the database are counted.
struct Metered {
    meter: Meter,
    replica: Replica,
}

impl Metered {
    async fn start() -> Self {
        let meter = Meter::before(&world().database_url).await;
        let url = meter.url.clone();
        let replica = Replica::with(|settings| settings.database.database_url = url).await;
        Self { meter, replica }
    }

    /// Holds that each call costs so much as `role`, once its statements are known to the server, and no Parse.
    async fn assert_costs(
        &self,
        what: &str,
        role: &str,
        expected: Cost,
        mut call: impl AsyncFnMut() -> Result<(), Status>,
    ) {
        let mut seen = Vec::new();
        for _ in 0..ROUNDS {
            self.meter.take();
            for _ in 0..CALLS {
                call().await.expect(what);
            }
            seen = self.meter.take();
            // A rollback is sent after the answer, which does not wait for it.
            within(std::time::Duration::from_secs(1), async || {
                seen.extend(self.meter.take());
                let enough = CALLS * (expected.syncs + expected.queries);
                (count(&seen, role, "SQ") >= enough).then_some(())
            })
            .await;
            let is_expected = count(&seen, role, "S") == CALLS * expected.syncs
                && count(&seen, role, "Q") == CALLS * expected.queries
                && count(&seen, role, "P") == 0;
            if is_expected {
                return;
            }
        }
        let seen: Vec<String> = seen.iter().map(Message::to_string).collect();
        let seen = seen.join("\n");
        panic!("{CALLS} x {what} do not cost {expected:?} each, but\n{seen}");
    }
}

/// Messages of these kinds, but for what the service asks to know whether the server is there.
fn count(sent: &[Message], role: &str, kinds: &str) -> usize {
    sent.iter()
        .filter(|message| message.role == role && kinds.contains(message.kind))
        .filter(|message| message.text != "select 1")
        .count()
}

#[tokio::test]
async fn a_hot_read_is_one_sync() {
    let metered = Metered::start().await;
    let firm = Firm::new("Reader").await;
    let project = firm.creates_project("Apollo").await.id;
    let consultant = firm.hires("Kim").await.id;
    let caller = metered.replica.called_by(&firm);
    let get_project = async || {
        let request = projects::GetProjectRequest {
            project_id: project.clone(),
        };
        caller.projects().get_project(request).await.map(drop)
    };
    let get_consultant = async || {
        let request = consultants::GetConsultantRequest {
            consultant_id: consultant.clone(),
        };
        caller.consultants().get_consultant(request).await.map(drop)
    };
    let once = || cost(1, 0);
    metered
        .assert_costs("GetProject", "projects_app", once(), get_project)
        .await;
    metered
        .assert_costs("GetConsultant", "consultants_app", once(), get_consultant)
        .await;
    metered.replica.stop().await;
}

#[test]
fn every_hot_read_is_counted() {
    let services = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services");
    let mut found = BTreeSet::new();
    let mut folders = vec![services.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = std::fs::read_to_string(&path).expect("a file");
                let name = path.strip_prefix(&services).expect("below the services");
                for _ in 0..text.matches(".read_one(").count() {
                    assert!(
                        found.insert(name.to_string_lossy().into_owned()),
                        "{name:?} twice"
                    );
                }
            }
        }
    }
    let known = HOT_READS.map(str::to_owned).into_iter().collect();
    assert_eq!(found, known, "a hot read that no test counts, or none");
}

#[tokio::test]
async fn a_page_is_begun_read_and_rolled_back() {
    let metered = Metered::start().await;
    let firm = Firm::new("Lister").await;
    firm.creates_project("Apollo").await;
    let caller = metered.replica.called_by(&firm);
    let list = async || {
        let request = projects::ListProjectsRequest::default();
        caller.projects().list_projects(request).await.map(drop)
    };
    metered
        .assert_costs("ListProjects", "projects_app", cost(1, 2), list)
        .await;
    metered.replica.stop().await;
}

#[tokio::test]
async fn a_create_costs_three_statements_between_begin_and_commit() {
    let metered = Metered::start().await;
    let firm = Firm::new("Creator").await;
    let client = firm.wins_client("North").await.id;
    let caller = metered.replica.called_by(&firm);
    // Its client, its row, its event.
    let create = async || creates(&caller, &client, false).await;
    metered
        .assert_costs("CreateProject", "projects_app", cost(3, 2), create)
        .await;
    // The claim, and the answer that is remembered.
    let create = async || creates(&caller, &client, true).await;
    metered
        .assert_costs("CreateProject once", "projects_app", cost(5, 2), create)
        .await;
    metered.replica.stop().await;
}

async fn creates(caller: &Caller, client: &str, once: bool) -> Result<(), Status> {
    let id = Clock::system().new_uuid();
    let project = projects::Project {
        client_id: client.to_owned(),
        code: id.simple().to_string(),
        display_name: "New".to_owned(),
        billable: true,
        ..Default::default()
    };
    let request = projects::CreateProjectRequest {
        project: Some(project),
        request_id: if once { id.to_string() } else { String::new() },
    };
    caller.projects().create_project(request).await.map(drop)
}
