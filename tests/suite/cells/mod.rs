//! Cells: three hundred firms over the shared database and three dedicated ones. A firm's rows are in its cell and nowhere
//! else; a cell that is away, that is gone or that is not what it ought to be costs its own firms alone.

mod ground;
mod locked;
mod placed;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use harness::{Firm, eventually};
use proto::tenants::v1 as tenants;
use sqlx::{ConnectOptions as _, Connection as _};
use tonic::Code;

use ground::{Ground, ROOM};
use placed::{Placed, new_client};

const CELLS: [&str; 3] = ["east", "north", "south"];
const FIRMS: usize = 300;
/// Firms of each dedicated cell.
const DEDICATED: usize = 5;
const AT_ONCE: usize = 8;
/// A consumer that waits for a database waits for ten seconds.
const IN_TIME: Duration = Duration::from_secs(6);

/// Every firm of the shared cell and of the dedicated ones.
async fn all(ground: &Ground) -> Vec<Placed> {
    let each = FIRMS / (CELLS.len() * DEDICATED);
    let cell = |number: usize| {
        if number.is_multiple_of(each) {
            CELLS[number / each % CELLS.len()]
        } else {
            "shared"
        }
    };
    futures::stream::iter((0..FIRMS).map(cell))
        .map(|cell| Placed::in_cell(ground, cell))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

fn of_cell<'a>(placed: &'a [Placed], cell: &str) -> Vec<&'a Placed> {
    placed.iter().filter(|it| it.cell == cell).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_firms_live_in_four_cells_and_none_suffers_for_another() {
    let mut ground = Ground::start(&CELLS).await;
    let placed = all(&ground).await;

    rows_are_in_their_cell_alone(&ground, &placed).await;
    every_change_is_on_record(&placed).await;
    connections_stay_within_their_bounds(&ground, &placed).await;
    nobody_elses_event_leaves_a_cell(&ground, &placed).await;
    passwords_of_the_shared_cell_open_no_other(&ground).await;
    a_file_that_cannot_be_used_costs_its_own_cell_alone(&ground, &placed).await;
    a_stopped_cell_costs_its_firms_alone_and_comes_back(&mut ground, &placed).await;
    locked::a_locked_cell_costs_its_firms_alone(&ground, &placed).await;
    a_cell_that_is_named_no_longer_is_closed(&ground, &placed).await;
    a_database_is_no_other_cell_for_being_at_its_place(&ground, &placed).await;
    no_connection_is_opened_to_another_cell(&ground, &placed).await;
    ground.doctor_names_cells_that_it_was_not_shown();
    a_firm_is_placed_before_it_is_let_in(&mut ground).await;
    ground.end().await;
}

async fn rows_are_in_their_cell_alone(ground: &Ground, placed: &[Placed]) {
    for cell in CELLS.into_iter().chain(["shared"]) {
        let own = of_cell(placed, cell);
        let ids: Vec<String> = own.iter().map(|it| format!("'{}'", it.firm.id)).collect();
        let ids = ids.join(", ");
        for table in ["projects.project", "projects.client"] {
            let of =
                |what: &str| format!("select count(*) from {table} where tenant_id {what} ({ids})");
            let count = i64::try_from(own.len()).expect("few");
            assert_eq!(
                ground.asks(cell, &of("in")).await,
                count,
                "{table} of {cell}"
            );
            assert_eq!(
                ground.asks(cell, &of("not in")).await,
                0,
                "{table} of {cell}"
            );
        }
    }
    for cell in CELLS {
        let strange = "select count(*) from pg_namespace where nspname in ('tenants', 'audit')";
        assert_eq!(ground.asks(cell, strange).await, 0, "{cell}");
    }
}

/// The audit log hears of every change, in whichever cell it was made, once.
async fn every_change_is_on_record(placed: &[Placed]) {
    let recorded = async |firm: &Firm| {
        let request = proto::audit::v1::ListRecordsRequest {
            page_size: 100,
            ..Default::default()
        };
        let listed = firm.audit().list_records(request).await.expect("listed");
        let mut types: BTreeMap<String, usize> = BTreeMap::new();
        for row in listed.into_inner().records {
            *types.entry(row.r#type).or_default() += 1;
        }
        types
    };
    let created = [
        "catalyst.projects.v1.ClientCreated",
        "catalyst.projects.v1.ProjectCreated",
    ];
    for it in placed {
        let types = eventually("both changes are on record", async || {
            let types = recorded(&it.firm).await;
            created
                .iter()
                .all(|name| types.contains_key(*name))
                .then_some(types)
        })
        .await;
        assert!(
            types.values().all(|count| *count == 1),
            "{}: {types:?}",
            it.cell
        );
    }
}

/// All cells are called at once; the service has no more connections there than it may have in all of them.
async fn connections_stay_within_their_bounds(ground: &Ground, placed: &[Placed]) {
    let dedicated: Vec<&Placed> = placed.iter().filter(|it| it.cell != "shared").collect();
    let calls = futures::stream::iter((0..20).flat_map(|_| dedicated.iter()))
        .map(|it| it.reads())
        .buffer_unordered(AT_ONCE)
        .collect::<Vec<_>>();
    let mut calls = std::pin::pin!(calls);
    let mut most = 0;
    loop {
        tokio::select! {
            answers = &mut calls => {
                assert!(answers.iter().all(Result::is_ok), "{answers:?}");
                break;
            }
            () = tokio::task::yield_now() => {
                let mut open = 0;
                for cell in CELLS {
                    let of = "select count(*) from pg_stat_activity where usename = 'projects_app'";
                    open += ground.asks(cell, of).await;
                }
                most = most.max(open);
            }
        }
    }
    // The service's own work does without a place, and a session ends on the server a moment after its client.
    let bound = i64::from(ROOM) + 4;
    assert!((1..=bound).contains(&most), "{most} connections");
}

/// Whoever owns the database of a cell writes an event of a firm that is not placed there.
async fn nobody_elses_event_leaves_a_cell(ground: &Ground, placed: &[Placed]) {
    let victim = of_cell(placed, "shared")[0];
    let east = of_cell(placed, "east")[0];
    let forged = kit::ctx::Clock::system().new_uuid();
    for outbox in ["outbox", "security_outbox"] {
        let statement = format!(
            "insert into projects.{outbox} \
                 (tenant_id, event_id, type, aggregate_id, version, occurred_at, actor_kind, actor_id, body) \
             values ('{}', '{forged}', 'catalyst.projects.v1.ClientDeleted', '{forged}', 1, now(), 'user', 'mallory', '')",
            victim.firm.id
        );
        ground.does("east", &statement).await;
    }
    // What is published after it, and read with it, is on record.
    let id = east.firm.creates_project("after the forged event").await.id;
    let request = || proto::audit::v1::ListRecordsRequest {
        page_size: 100,
        ..Default::default()
    };
    eventually("the cell's own event is on record", async || {
        let listed = east.firm.audit().list_records(request()).await.ok()?;
        let records = listed.into_inner().records;
        records
            .iter()
            .any(|row| row.resource_id == id)
            .then_some(())
    })
    .await;
    for outbox in ["outbox", "security_outbox"] {
        let waits = format!("select count(*) from projects.{outbox} where event_id = '{forged}'");
        assert_eq!(ground.asks("east", &waits).await, 1, "{outbox}");
        let statement = format!("delete from projects.{outbox} where event_id = '{forged}'");
        ground.does("east", &statement).await;
    }
    let listed = victim.firm.audit().list_records(request()).await;
    let records = listed.expect("listed").into_inner().records;
    let forged = forged.to_string();
    assert!(records.iter().all(|row| row.resource_id != forged));
}

/// Whoever owns the server of a dedicated cell is told its passwords.
async fn passwords_of_the_shared_cell_open_no_other(ground: &Ground) {
    let shared = ground.database_settings();
    let dedicated = shared.dedicated().expect("read").whole().expect("sound");
    for (cell, settings) in &dedicated {
        for role in ["projects_owner", "projects_app", "projects_relay"] {
            let own = kit::db::role_options(settings, role).expect("options");
            let connected = own.connect().await;
            connected.expect("its own").close().await.expect("closed");
            let password = std::fs::read_to_string(shared.database_password_dir.join(role));
            let other = kit::db::role_options(settings, role).expect("options");
            let other = other.password(password.expect("a password").trim_end());
            let refused = other.connect().await.expect_err("another cell's");
            let code = refused
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code);
            assert_eq!(code.as_deref(), Some("28P01"), "{role} of {cell}");
        }
    }
}

async fn a_file_that_cannot_be_used_costs_its_own_cell_alone(ground: &Ground, placed: &[Placed]) {
    let south = ground.file_of("south");
    let url = std::fs::read(&south).expect("read");
    let strays = [ground.file_of("A stray"), ground.file_of("a-new-one")];
    for file in strays.iter().chain([&south]) {
        std::fs::write(file, "no URL\n").expect("written");
    }
    // A new process begins without it; one that knew the cell goes on.
    let (host, channel) = ground.another_process().await;
    for it in placed.iter().filter(|it| it.cell != "south").take(20) {
        it.is_served().await;
        it.over(channel.clone()).is_served().await;
    }
    of_cell(placed, "south")[0].is_served().await;
    let without = of_cell(placed, "south")[0].over(channel.clone());
    without.is_unavailable().await;

    let admin = ground.stack.postgres_admin_url.clone();
    let admins = ground.stack.cell_admin_urls();
    let settings = ground.database_settings();
    let migrated = catalyst::deployment::migrate_database(&admin, &settings, &admins).await;
    let refused = format!("{:#}", migrated.expect_err("some could not be"));
    for file in ["\"A stray\"", "the file a-new-one", "the file south"] {
        assert!(refused.contains(file), "{file}: {refused}");
    }

    for file in &strays {
        std::fs::remove_file(file).expect("removed");
    }
    std::fs::write(&south, url).expect("written");
    without.is_served().await;
    host.stop().await;
}

/// A name may lead to another database from one connection to the next.
async fn no_connection_is_opened_to_another_cell(ground: &Ground, placed: &[Placed]) {
    let east = of_cell(placed, "east")[0];
    east.is_served().await;
    ground
        .does("east", "comment on schema app is 'the cell north'")
        .await;
    let end =
        "select pg_terminate_backend(pid) from pg_stat_activity where usename ~ '_(app|relay)$'";
    ground.does("east", end).await;
    // None is called a fault of ours, and so none of an event.
    for answer in futures::future::join_all((0..8).map(|_| east.reads())).await {
        placed::assert_away(&answer.expect_err("no connection leads there"));
    }
    east.is_unavailable().await;
    let answer = harness::within(IN_TIME, async || east.reads().await.ok()).await;
    assert!(answer.is_none(), "the firm is served from another cell");
    ground
        .does("east", "comment on schema app is 'the cell east'")
        .await;
    east.is_served().await;
}

async fn a_stopped_cell_costs_its_firms_alone_and_comes_back(
    ground: &mut Ground,
    placed: &[Placed],
) {
    let away = of_cell(placed, "north");
    ground.stops("north").await;
    for it in &away {
        it.is_unavailable().await;
    }
    // All others, again and again while the cell is away: each is served. A busy machine may open a connection too late
    // now and then; clients repeat such a call once, and so few of them are no cell that is away.
    let mut repeated = Vec::new();
    for _ in 0..3 {
        let others = placed.iter().filter(|it| it.cell != "north");
        let answers: Vec<_> = futures::stream::iter(others)
            .map(|it| async {
                let first = it.reads().await.and(it.writes().await);
                if first.is_err() {
                    it.is_served().await;
                }
                first.err().map(|error| (it.cell, error))
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        assert_eq!(answers.len(), FIRMS - DEDICATED);
        repeated.extend(answers.into_iter().flatten());
    }
    assert!(repeated.len() <= 3, "repeated: {repeated:?}");
    ground.repeats_event(away[0].firm.id).await;
    for cell in ["east", "south", "shared"] {
        let it = of_cell(placed, cell)[0];
        let project = it.firm.creates_project("meanwhile").await.id;
        let of = format!("select count(*) from time_entries.project where id = '{project}'");
        let heard = async || (ground.asks(cell, &of).await == 1).then_some(());
        let heard = harness::within(IN_TIME, heard).await;
        heard.unwrap_or_else(|| panic!("an event of {cell} waits for the cell that is away"));
    }
    // What they changed meanwhile is on record, too.
    for cell in ["east", "south", "shared"] {
        let it = of_cell(placed, cell)[0];
        let heard = async || {
            let request = proto::audit::v1::ListRecordsRequest {
                page_size: 100,
                ..Default::default()
            };
            let records = it
                .firm
                .audit()
                .list_records(request)
                .await
                .ok()?
                .into_inner();
            let clients = records
                .records
                .iter()
                .filter(|row| row.r#type.ends_with(".ClientCreated"));
            (clients.count() >= 4).then_some(())
        };
        eventually("their changes are on record", heard).await;
    }
    for it in &away {
        it.is_unavailable().await;
    }
    ground.starts("north").await;
    for it in &away {
        it.is_served().await;
    }
}

async fn a_cell_that_is_named_no_longer_is_closed(ground: &Ground, placed: &[Placed]) {
    let east = of_cell(placed, "east")[0];
    east.is_served().await;
    let file = ground.file_of("east");
    let url = std::fs::read(&file).expect("read");
    std::fs::remove_file(&file).expect("removed");
    east.is_unavailable().await;
    eventually("its connections are closed", async || {
        (ground.connections("east").await == 0).then_some(())
    })
    .await;
    of_cell(placed, "south")[0].is_served().await;
    std::fs::write(&file, url).expect("written");
    east.is_served().await;
}

/// Two cells are taken for each other: no firm is served from the wrong one, where its rows would seem to be gone.
async fn a_database_is_no_other_cell_for_being_at_its_place(ground: &Ground, placed: &[Placed]) {
    let files = ["east", "south"].map(|cell| ground.file_of(cell));
    let urls = files.clone().map(|file| std::fs::read(file).expect("read"));
    std::fs::write(&files[0], &urls[1]).expect("written");
    std::fs::write(&files[1], &urls[0]).expect("written");
    for cell in ["east", "south"] {
        let it = of_cell(placed, cell)[0];
        it.is_unavailable().await;
        // And stays so: every replica of every service has looked at the databases by then.
        let answer = harness::within(IN_TIME, async || match it.reads().await {
            Err(refusal) if refusal.code() == Code::Unavailable => None,
            answer => Some(answer),
        });
        let answer = answer.await;
        assert!(
            answer.is_none(),
            "{cell} is served from the other: {answer:?}"
        );
    }
    let admin = ground.stack.postgres_admin_url.clone();
    let admins = ground.stack.cell_admin_urls();
    let settings = ground.database_settings();
    let migrated = catalyst::deployment::migrate_database(&admin, &settings, &admins).await;
    let refused = format!("{:#}", migrated.expect_err("it is another cell"));
    for cell in ["east", "south"] {
        let told = format!("the cell {cell}: connect as consultants_owner (its URL and");
        assert!(refused.contains(&told), "{refused}");
    }
    for (file, url) in files.iter().zip(&urls) {
        std::fs::write(file, url).expect("written");
    }
    let mut others = admins.clone();
    let mut of = |cell| others.cells.remove(&ground::named(cell)).expect("a URL");
    let (east, south) = (of("east"), of("south"));
    others.cells.insert(ground::named("east"), south);
    others.cells.insert(ground::named("south"), east);
    let migrated = catalyst::deployment::migrate_database(&admin, &settings, &others).await;
    let refused = format!("{:#}", migrated.expect_err("it is another cell"));
    for (cell, other) in [("east", "south"), ("south", "east")] {
        let told = format!("the database of the cell {cell} is the cell {other}: check which");
        assert!(refused.contains(&told), "{refused}");
    }
    for cell in ["east", "south"] {
        of_cell(placed, cell)[0].is_served().await;
    }
}

async fn a_firm_is_placed_before_it_is_let_in(ground: &mut Ground) {
    let mut operator = ground.operator().tenants();
    let tenant = tenants::Tenant {
        slug: "late".to_owned(),
        display_name: "Late".to_owned(),
        time_zone: "UTC".to_owned(),
        currency_code: "EUR".to_owned(),
        state: tenants::TenantState::Suspended.into(),
        ..Default::default()
    };
    let request = tenants::CreateTenantRequest {
        tenant: Some(tenant),
        ..Default::default()
    };
    let created = operator.create_tenant(request).await.expect("created");
    let created = created.into_inner().tenant.expect("the tenant");
    assert_eq!(created.cell, "shared");
    let place = |cell: &str| tenants::PlaceTenantRequest {
        tenant_id: created.id.clone(),
        cell: cell.to_owned(),
        ..Default::default()
    };
    let unknown = operator.place_tenant(place("west")).await;
    assert_eq!(
        unknown.expect_err("no such cell").code(),
        Code::InvalidArgument
    );
    let id = kit::TenantId::parse_strict(&created.id).expect("an id");
    let admin = harness::Caller::user(id, "admin", &["admin"]).over(ground.channel.clone());
    // A refusal waits in no cell that the firm may yet leave, and needs none that is away.
    ground.stops("east").await;
    for cell in ["south", "east"] {
        let placed = operator.place_tenant(place(cell)).await.expect("placed");
        assert_eq!(placed.into_inner().tenant.expect("the tenant").cell, cell);
    }
    let otherwise = harness::within(IN_TIME, async || {
        let refused = admin.projects().create_client(new_client()).await;
        let refused = refused.expect_err("not let in");
        (refused.code() != Code::PermissionDenied).then_some(refused)
    });
    let otherwise = otherwise.await;
    assert!(otherwise.is_none(), "{otherwise:?}");
    ground.starts("east").await;
    operator.place_tenant(place("south")).await.expect("placed");
    let request = tenants::ResumeTenantRequest {
        tenant_id: created.id.clone(),
        ..Default::default()
    };
    operator.resume_tenant(request).await.expect("let in");
    let late = operator.place_tenant(place("shared")).await;
    let late = late.expect_err("it has been active");
    assert_eq!(late.code(), Code::FailedPrecondition);

    let request = new_client();
    eventually("the firm is let in", async || {
        admin.projects().create_client(request.clone()).await.ok()
    })
    .await;
    let of = format!("select count(*) from projects.client where tenant_id = '{id}'");
    assert_eq!(ground.asks("south", &of).await, 1);
    assert_eq!(ground.asks("shared", &of).await, 0);
}
