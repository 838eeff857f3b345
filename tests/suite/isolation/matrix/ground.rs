//! The ground of the matrix: the attacker's firm, the victim's with its canaries, and calls made from their cases.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use harness::{Caller, Firm, Probe, Replica, eventually, probe, within, world};
use kit::TenantId;
use kit::ctx::Clock;
use prost::Message as _;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::forgeries::{Forgery, forgeries};
use super::kind::Kind;
use super::shot::Call;
use crate::isolation::cases::{CASES, Case, Fixture, Who, audience, compose};

/// Connections that the callers share.
const CHANNELS: usize = 6;
/// What can be deleted but once is made in advance, for the cells whose call must succeed.
const STOCK: i64 = 24;

/// Everything that the cells share.
pub(super) struct Ground {
    /// The attacker's.
    pub(super) own: Fixture,
    /// The victim's.
    pub(super) other: Fixture,
    /// Suspended before the first call.
    pub(super) suspended: Firm,
    /// A tenant that never was.
    pub(super) ghost: TenantId,
    /// Ids of the victim's resources that are archived, inactive or deleted, by the name of the case.
    pub(super) gone: Vec<(&'static str, String)>,
    /// Words and ids of the victim that no attacker sends.
    pub(super) canaries: Vec<String>,
    /// Tokens that nobody should take.
    pub(super) forgeries: Vec<Forgery>,
    /// Where each tenant may call but once a second.
    pub(super) slow: Channel,
    /// When it all began.
    pub(super) since: OffsetDateTime,
    run: String,
    actors: AtomicU32,
    slots: AtomicI64,
    channels: Vec<Channel>,
    stock: Mutex<BTreeMap<(TenantId, &'static str), Vec<String>>>,
}

fn channel(url: &str) -> Channel {
    Endpoint::from_shared(url.to_owned())
        .expect("a URL")
        .connect_lazy()
}

impl Ground {
    /// Builds the firms.
    pub(super) async fn new(replica: &Replica) -> Self {
        let since = Clock::system().now();
        let (own, other, suspended) = tokio::join!(
            Fixture::new("Own"),
            Fixture::new("Other"),
            Firm::new("Suspended")
        );
        let suspend = proto::tenants::v1::SuspendTenantRequest {
            tenant_id: suspended.id.to_string(),
            reason: "unpaid".to_owned(),
            ..Default::default()
        };
        let operator = Caller::operator();
        operator
            .tenants()
            .suspend_tenant(suspend)
            .await
            .expect("the tenant is suspended");
        let ground = Self {
            forgeries: forgeries(own.firm.id),
            own,
            other,
            suspended,
            ghost: TenantId::new(Clock::system().new_uuid()),
            gone: Vec::new(),
            canaries: Vec::new(),
            slow: channel(&replica.url),
            since,
            run: Clock::system().new_uuid().simple().to_string(),
            actors: AtomicU32::new(0),
            slots: AtomicI64::new(0),
            channels: (0..CHANNELS).map(|_| channel(&world().url)).collect(),
            stock: Mutex::default(),
        };
        ground.furnish().await
    }

    /// Adds what the cells need beyond one of everything.
    async fn furnish(mut self) -> Self {
        for fixture in [&self.own, &self.other] {
            let firm = &fixture.firm;
            // A second one of all that is listed, so that every list has a second page.
            firm.assigns(fixture.id("$project"), fixture.id("$leaver"))
                .await;
            firm.logs_hour(fixture.id("$old_project"), fixture.id("$leaver"), 12)
                .await;
            self.alarm(firm).await;
            self.fill_stock(fixture).await;
        }
        let firm = &self.other.firm;
        self.gone = vec![
            ("$project", archived(firm).await),
            ("$consultant", inactive(firm).await),
        ];
        self.canaries = canaries(firm).await;
        self.is_refused_everywhere(&self.suspended).await;
        self
    }

    /// Another alert beside the one of the fixture.
    async fn alarm(&self, firm: &Firm) {
        let swapped = firm
            .user("mallory-too", &["admin"])
            .without("x-tenant-id")
            .with("x-tenant-id", &self.ghost.to_string());
        let refused = swapped
            .projects()
            .list_clients(proto::projects::v1::ListClientsRequest::default())
            .await;
        assert!(refused.is_err());
        eventually("a second alert", async || {
            let alerts = firm
                .audit()
                .list_alerts(proto::audit::v1::ListAlertsRequest::default())
                .await;
            (alerts.ok()?.into_inner().alerts.len() > 1).then_some(())
        })
        .await;
    }

    async fn fill_stock(&self, fixture: &Fixture) {
        let firm = &fixture.firm;
        let person = firm.hires("Stock").await;
        let mut entries = Vec::new();
        let mut assignments = Vec::new();
        for n in 0..STOCK {
            let entry = firm.logs_hour(fixture.id("$project"), &person.id, 24 + n);
            entries.push(entry.await.id);
            let project = firm.creates_project("Stock").await;
            assignments.push(firm.assigns(&project.id, &person.id).await.id);
        }
        let mut stock = self.stock.lock().expect("the stock");
        stock.insert((firm.id, "$old_entry"), entries);
        stock.insert((firm.id, "$assignment"), assignments);
    }

    /// Waits until every service refuses the firm.
    async fn is_refused_everywhere(&self, firm: &Firm) {
        for method in [
            "catalyst.consultants.v1.ConsultantService/ListConsultants",
            "catalyst.projects.v1.ProjectService/ListProjects",
            "catalyst.time_entries.v1.TimeEntryService/ListTimeEntries",
            "catalyst.audit.v1.AuditService/ListAlerts",
        ] {
            eventually("the suspended tenant is refused", async || {
                let answer = probe(firm, method, Vec::new()).await;
                (answer.code == Code::PermissionDenied).then_some(())
            })
            .await;
        }
    }

    /// A subject that nobody else has.
    pub(super) fn actor(&self) -> String {
        let n = self.actors.fetch_add(1, Ordering::Relaxed);
        format!("{}-{n}", self.run)
    }

    /// Whether a subject is one of this run.
    pub(super) fn is_ours(&self, actor: &str) -> bool {
        actor.starts_with(&self.run)
    }

    /// One of the shared connections.
    pub(super) fn line(&self) -> Channel {
        let n = self.actors.load(Ordering::Relaxed) as usize;
        self.channels[n % CHANNELS].clone()
    }

    /// The request of a case. One that `acts` is made so that it can succeed however often it is made: days, hours and
    /// what is deleted are taken but once.
    pub(super) fn request(
        &self,
        fixture: &Fixture,
        case: &Case,
        swapped: Option<(&str, &str)>,
        acts: bool,
    ) -> DynamicMessage {
        let mut swapped = swapped.map(|(name, id)| (name.to_owned(), id.to_owned()));
        if acts && swapped.is_none() {
            for name in ["$old_entry", "$assignment"] {
                if case.ids.iter().any(|(id, _)| *id == name) {
                    let mut stock = self.stock.lock().expect("the stock");
                    let left = stock.get_mut(&(fixture.firm.id, name));
                    let id = left.and_then(Vec::pop).expect("the stock is too small");
                    swapped = Some((name.to_owned(), id));
                }
            }
        }
        let swapped = swapped.as_ref().map(|(a, b)| (a.as_str(), b.as_str()));
        let mut json = fixture.json(case, swapped);
        if acts {
            self.move_to_free_days(&mut json);
        }
        compose(case.method, &json)
    }

    fn move_to_free_days(&self, json: &mut Value) {
        let slot = self.slots.fetch_add(1, Ordering::Relaxed);
        move_days(json, slot);
    }
}

fn move_days(json: &mut Value, slot: i64) {
    let start = datetime!(2020-01-01 00:00 UTC) + Duration::hours(2 * slot);
    let day = (datetime!(2031-01-01 00:00 UTC) + Duration::days(slot)).date();
    let instant = |at: OffsetDateTime| json!(at.format(&Rfc3339).expect("an instant"));
    match json {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                match name.as_str() {
                    "startedAt" => *value = instant(start),
                    "endedAt" => *value = instant(start + Duration::hours(1)),
                    "startDate" | "endDate" => *value = json!(day.to_string()),
                    _ => move_days(value, slot),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| move_days(item, slot)),
        _ => {}
    }
}

async fn archived(firm: &Firm) -> String {
    let project = firm.creates_project("Skylab").await;
    let request = proto::projects::v1::ArchiveProjectRequest {
        project_id: project.id.clone(),
        ..Default::default()
    };
    firm.projects()
        .archive_project(request)
        .await
        .expect("the project is archived");
    project.id
}

async fn inactive(firm: &Firm) -> String {
    let person = firm.hires("Former").await;
    let request = proto::consultants::v1::DeactivateConsultantRequest {
        consultant_id: person.id.clone(),
        ..Default::default()
    };
    firm.consultants()
        .deactivate_consultant(request)
        .await
        .expect("the consultant is deactivated");
    person.id
}

/// Resources of the victim whose words, codes and ids nobody of another firm ever sends.
async fn canaries(firm: &Firm) -> Vec<String> {
    let word = |what: &str| format!("canary-{what}-{}", Clock::system().new_uuid().simple());
    let words: Vec<String> = ["person", "subject", "project", "note"]
        .into_iter()
        .map(word)
        .collect();
    let person = firm.hires_subject(&words[0], &words[1]).await;
    let project = firm.creates_project(&words[2]).await;
    let assignment = firm.assigns(&project.id, &person.id).await;
    let entry = proto::time_entries::v1::TimeEntry {
        note: words[3].clone(),
        ..firm.hour_on(&project.id, &person.id, 8)
    };
    let request = proto::time_entries::v1::CreateTimeEntryRequest {
        time_entry: Some(entry),
        ..Default::default()
    };
    let entry = firm
        .time_entries()
        .create_time_entry(request)
        .await
        .expect("the time entry is created")
        .into_inner()
        .time_entry
        .expect("the time entry");
    let ids = [
        person.id,
        person.code,
        project.id,
        project.client_id,
        project.code,
        assignment.id,
        entry.id,
    ];
    words.into_iter().chain(ids).collect()
}

/// One cell in the making: an attack on an RPC.
pub(super) struct Aim<'a> {
    pub(super) ground: &'a Ground,
    pub(super) case: &'static Case,
    pub(super) kind: Kind,
    /// The address that callers without a verified token come from: no other cell uses it.
    pub(super) source: Ipv4Addr,
}

impl Aim<'_> {
    /// The tenant of the right caller.
    pub(super) fn tenant(&self) -> TenantId {
        match self.case.who {
            Who::Operator => TenantId::PLATFORM,
            Who::Admin | Who::Service(_) => self.ground.own.firm.id,
        }
    }

    /// A caller that the RPC lets in, and the name under which it is on record.
    pub(super) fn insider(&self) -> (Caller, String) {
        let actor = self.ground.actor();
        let (caller, actor) = match self.case.who {
            Who::Admin => (self.ground.own.firm.user(&actor, &["admin"]), actor),
            Who::Operator => {
                let roles = ["platform_operator"];
                (Caller::user(TenantId::PLATFORM, &actor, &roles), actor)
            }
            Who::Service(service) => {
                let audience = audience(self.case.method);
                let tenant = self.ground.own.firm.id;
                let caller = Caller::service(service, audience, tenant);
                (caller, service.to_owned())
            }
        };
        (caller.over(self.ground.line()), actor)
    }

    /// The right request, that need not succeed twice.
    pub(super) fn request(&self) -> DynamicMessage {
        let own = &self.ground.own;
        self.ground.request(own, self.case, None, false)
    }

    /// The right request, made to succeed.
    pub(super) fn fresh(&self) -> DynamicMessage {
        let own = &self.ground.own;
        self.ground.request(own, self.case, None, true)
    }

    /// A call by `caller`, whose refusal lands in `tenant`'s log under `actor`.
    pub(super) fn call(
        &self,
        caller: Caller,
        tenant: TenantId,
        actor: String,
        message: &DynamicMessage,
    ) -> Call {
        Call {
            caller,
            path: self.case.method.to_owned(),
            message: message.encode_to_vec(),
            tenant: tenant.to_string(),
            actor,
            is_attackers: true,
        }
    }

    /// A call by someone who is let in, after a change to what is sent beside the message.
    pub(super) fn by_insider(
        &self,
        message: &DynamicMessage,
        change: impl FnOnce(Caller) -> Caller,
    ) -> Call {
        let (caller, actor) = self.insider();
        self.call(change(caller), self.tenant(), actor, message)
    }

    /// A connection from this cell's own address.
    pub(super) fn own_channel(&self) -> Channel {
        // Only there every address of the loopback network is the machine's own.
        let address = cfg!(target_os = "linux").then_some(IpAddr::V4(self.source));
        Endpoint::from_shared(world().url.clone())
            .expect("the world's URL")
            .local_address(address)
            .connect_lazy()
    }

    /// The address that the services see.
    pub(super) fn seen_source(&self) -> String {
        if cfg!(target_os = "linux") {
            self.source.to_string()
        } else {
            Ipv4Addr::LOCALHOST.to_string()
        }
    }
}

/// The case of an RPC.
pub(super) fn case_of(method: &str) -> &'static Case {
    CASES
        .iter()
        .find(|case| case.method == method)
        .unwrap_or_else(|| panic!("no case of {method}"))
}

/// How long an answer may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
/// How long a watch that was let in may be silent before that counts as its answer.
const SILENCE: std::time::Duration = std::time::Duration::from_secs(3);

/// A call, and its answer. One that finds the machine too busy to answer is made again, as every caller is told to do:
/// nothing of it is on record.
pub(super) async fn send(call: &Call) -> Probe {
    let answered = within(PATIENCE, async || {
        let answer = once(call).await;
        (answer.code != Code::Unavailable).then_some(answer)
    });
    match answered.await {
        Some(answer) => answer,
        None => once(call).await,
    }
}

/// For a stream the first message counts.
async fn once(call: &Call) -> Probe {
    let is_watch = call.path.ends_with("/WatchRecords");
    let (limit, code) = if is_watch {
        (SILENCE, Code::Ok)
    } else {
        (PATIENCE, Code::Unknown)
    };
    let answer = probe(&call.caller, &call.path, call.message.clone());
    tokio::time::timeout(limit, answer)
        .await
        .unwrap_or_else(|_| Probe {
            code,
            message: "no message in time".to_owned(),
            details: Vec::new(),
            metadata: Vec::new(),
            body: None,
        })
}
