//! The stack against real servers, each test in a folder of its own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use data_encoding::HEXLOWER;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::*;

/// A folder below the system's temporary one that everybody may enter and that goes with the test.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        let name = HEXLOWER.encode(&files::random_bytes::<8>().unwrap());
        let path = std::env::temp_dir().join(format!("catalyst-test-{name}"));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn options(folder: &Folder) -> StackOptions {
    StackOptions {
        dir: folder.path().join("data"),
        postgres: PostgresChoice::Auto,
        nats: NatsChoice::Auto,
        durable: true,
        cells: Vec::new(),
    }
}

async fn start(options: StackOptions) -> Stack {
    Stack::start(options, &|_| {}).await.unwrap()
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

/// Keeps a word in the database and one on the bus.
async fn remember(stack: &Stack) {
    connect(&stack.postgres_admin_url)
        .await
        .execute("create table note (word text); insert into note values ('kept')")
        .await
        .unwrap();
    user(stack, "migrator")
        .await
        .create_key_value(async_nats::jetstream::kv::Config {
            bucket: "tenants".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    let writer = user(stack, "tenants").await;
    let bucket = writer.get_key_value("tenants").await.unwrap();
    bucket.put("word", "kept".into()).await.unwrap();
}

async fn assert_remembered(stack: &Stack) {
    let word: String = sqlx::query_scalar("select word from note")
        .fetch_one(&mut connect(&stack.postgres_admin_url).await)
        .await
        .unwrap();
    assert_eq!(word, "kept");
    let bucket = user(stack, "tenants")
        .await
        .get_key_value("tenants")
        .await
        .unwrap();
    assert_eq!(bucket.get("word").await.unwrap().unwrap(), "kept");
}

async fn user(stack: &Stack, name: &str) -> async_nats::jetstream::Context {
    let credentials = stack.credentials_dir.join(format!("{name}.creds"));
    let client = async_nats::ConnectOptions::with_credentials_file(credentials)
        .await
        .unwrap()
        .custom_inbox_prefix(format!("_INBOX_{name}"))
        .connect(&stack.nats_url)
        .await
        .unwrap();
    async_nats::jetstream::new(client)
}

async fn kill(pid: u32) {
    let killed = Command::new("sh")
        .args(["-c", &format!("kill -KILL {pid}")])
        .status();
    assert!(killed.await.unwrap().success());
}

#[tokio::test]
async fn what_was_stored_is_there_after_an_orderly_restart() {
    let folder = Folder::new();
    let stack = start(options(&folder)).await;
    remember(&stack).await;
    stack.stop().await.unwrap();

    let stack = start(options(&folder)).await;
    assert_remembered(&stack).await;
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn what_was_stored_is_there_after_both_servers_were_killed() {
    let folder = Folder::new();
    let mut stack = start(options(&folder)).await;
    remember(&stack).await;
    let postgres = stack.postgres.as_mut().unwrap();
    kill(postgres.pid().unwrap()).await;
    kill(stack.nats.pid().unwrap()).await;

    postgres.restart().await.unwrap();
    stack.nats.restart().await.unwrap();
    assert_remembered(&stack).await;
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn a_folder_is_used_by_one_stack_at_a_time() {
    let folder = Folder::new();
    let stack = start(options(&folder)).await;
    let refused = Stack::start(options(&folder), &|_| {}).await.err().unwrap();
    assert!(
        refused
            .to_string()
            .starts_with("another catalyst is running on"),
        "{refused}"
    );
    stack.stop().await.unwrap();
}

const HOLDER: &str = "CATALYST_TEST_HOLDER_OF";

/// Not a test by itself: the program that the next one kills. It holds a stack until then.
#[tokio::test]
async fn holder() {
    let Some(folder) = std::env::var_os(HOLDER) else {
        return;
    };
    let folder = Folder(folder.into());
    let stack = start(options(&folder)).await;
    remember(&stack).await;
    let postgres = stack.postgres.as_ref().unwrap().pid().unwrap();
    println!("\nholding {postgres} {}", stack.nats.pid().unwrap());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn servers_whose_program_was_killed_are_ended_and_started_anew() {
    let folder = Folder::new();
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "stack::tests::holder", "--nocapture"])
        .env(HOLDER, folder.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let pids: Vec<u32> = loop {
        let line = lines.next_line().await.unwrap().expect("the holder ended");
        if let Some(pids) = line.strip_prefix("holding ") {
            break pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
        }
    };
    holder.kill().await.unwrap();
    let data = folder.path().join("data").canonicalize().unwrap();
    let [postgres, nats] = pids.try_into().unwrap();
    let postgres_runs = || server::runs(postgres, "postgres", &data.join("postgres/data"));
    let nats_runs = || server::runs(nats, "nats-server", &data.join("nats/nats-server.json"));
    assert!(postgres_runs() && nats_runs());

    let stack = start(options(&folder)).await;
    assert!(!postgres_runs() && !nats_runs());
    assert_remembered(&stack).await;
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn data_that_were_half_made_are_made_again() {
    let folder = Folder::new();
    let half = folder.path().join("data/postgres/data.partial");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("PG_VERSION"), "15").unwrap();
    start(options(&folder)).await.stop().await.unwrap();
    assert!(!half.exists());
}

/// A number in the pid file that meanwhile belongs to a stranger neither harms it nor keeps the server out.
#[tokio::test]
async fn a_stranger_with_the_number_of_the_last_postmaster_is_left_alone() {
    let folder = Folder::new();
    start(options(&folder)).await.stop().await.unwrap();
    let mut stranger = Command::new("sleep")
        .arg("60")
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let pid = stranger.id().unwrap();
    fs::write(
        folder.path().join("data/postgres/data/postmaster.pid"),
        format!("{pid}\n"),
    )
    .unwrap();

    start(options(&folder)).await.stop().await.unwrap();
    assert!(stranger.try_wait().unwrap().is_none());
}

async fn assert_serves_catalyst(choice: PostgresChoice) {
    let folder = Folder::new();
    let stack = start(StackOptions {
        postgres: choice,
        durable: false,
        ..options(&folder)
    })
    .await;
    let mut admin = connect(&stack.postgres_admin_url).await;
    admin.execute("create extension btree_gist").await.unwrap();
    admin
        .execute("create extension pg_stat_statements")
        .await
        .unwrap();
    admin
        .execute("create role guest login password 'guest'")
        .await
        .unwrap();
    // Accents are letters, and order is by code point whatever the machine's locale.
    let (upper, first): (String, bool) = sqlx::query_as("select upper('é'), 'Z' < 'a'")
        .fetch_one(&mut admin)
        .await
        .unwrap();
    assert_eq!((upper.as_str(), first), ("É", true));

    let with = |user: &str| stack.database_url.replacen("//", &format!("//{user}@"), 1);
    connect(&with("guest:guest")).await;
    assert!(PgConnection::connect(&with("guest:wrong")).await.is_err());
    assert!(PgConnection::connect(&with("postgres")).await.is_err());
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn the_bundled_postgresql_serves_catalyst() {
    assert_serves_catalyst(PostgresChoice::Bundled).await;
}

/// Decided by what is on the machine: with a suitable PostgreSQL it must be found and serve,
/// without one the refusal must say what to install.
#[tokio::test]
async fn an_installed_postgresql_serves_catalyst() {
    let suitable = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|version| version.file_name().to_str()?.parse::<u32>().ok())
        .any(|version| version >= locate::OLDEST_POSTGRES);
    if suitable {
        assert_serves_catalyst(PostgresChoice::System).await;
    } else {
        println!("this machine has no PostgreSQL in /usr/lib/postgresql");
        let refused = locate::postgres(&PostgresChoice::System, None, &|_| {}).await;
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .contains("install the package postgresql")
        );
    }
}

#[tokio::test]
async fn data_stay_with_the_version_that_made_them() {
    let folder = Folder::new();
    let dir = folder.path().join("data/postgres/data");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("PG_VERSION"), "13\n").unwrap();
    let refused = Stack::start(options(&folder), &|_| {}).await.err().unwrap();
    assert!(
        refused
            .to_string()
            .contains("PostgreSQL 13, which made the data here"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_database_given_as_a_url_is_used_as_it_is() {
    let (folder, other) = (Folder::new(), Folder::new());
    let owner = start(options(&other)).await;
    let stack = start(StackOptions {
        postgres: PostgresChoice::Url(owner.postgres_admin_url.clone()),
        ..options(&folder)
    })
    .await;
    assert!(stack.postgres.is_none());
    assert_eq!(stack.database_url, owner.database_url);
    stack.stop().await.unwrap();
    connect(&owner.postgres_admin_url).await;
    owner.stop().await.unwrap();
}

#[tokio::test]
async fn nats_syncs_every_write() {
    let folder = Folder::new();
    let stack = start(options(&folder)).await;
    let monitor = format!("{}/varz", stack.nats_monitor_url);
    let varz = reqwest::get(monitor)
        .await
        .unwrap()
        .json::<serde_json::Value>()
        .await
        .unwrap();
    assert_eq!(varz["jetstream"]["config"]["sync_always"], true);
    stack.stop().await.unwrap();
}

#[tokio::test]
async fn a_folder_that_is_closed_to_others_serves_its_owner_and_root_is_told_the_remedy() {
    let folder = Folder::new();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let started = Stack::start(options(&folder), &|_| {}).await;
    if files::running_as_root() {
        let refused = started.err().unwrap().to_string();
        assert!(
            refused.contains("choose a folder below one that is open to all"),
            "{refused}"
        );
    } else {
        started.unwrap().stop().await.unwrap();
    }
}
