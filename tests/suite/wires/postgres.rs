//! PostgreSQL over TLS: believed by authority and name alone, and never spoken to in plaintext where TLS was said.

use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use catalyst::stack::PostgresChoice;
use catalyst::stack::locate;
use catalyst::stack::postgres::Postgres;
use kit::settings::DatabaseSettings;
use sqlx::{ConnectOptions as _, Connection as _};

use super::certificates::{Authority, Folder};

/// The settings of a service that connects as the superuser, whose password is in the folder.
fn settings(url: &str, password: &str, folder: &Folder) -> DatabaseSettings {
    let passwords = folder.0.join("passwords");
    std::fs::create_dir_all(&passwords).expect("a folder");
    std::fs::write(passwords.join("postgres"), password).expect("written");
    DatabaseSettings::new(url.to_owned(), passwords, 1)
}

/// Whether the session is encrypted; an error tells why there is none.
async fn encrypted(settings: &DatabaseSettings) -> Result<bool, String> {
    let options = kit::db::role_options(settings, "postgres").map_err(|error| error.to_string())?;
    let mut connection = options.connect().await.map_err(|error| error.to_string())?;
    let is = sqlx::query_scalar("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
        .fetch_one(&mut connection)
        .await
        .map_err(|error| error.to_string())?;
    connection
        .close()
        .await
        .map_err(|error| error.to_string())?;
    Ok(is)
}

fn parts(admin_url: &str) -> (String, String) {
    let url = reqwest::Url::parse(admin_url).expect("a URL");
    (
        url.password().expect("a password").to_owned(),
        url.port().expect("a port").to_string(),
    )
}

/// Switches TLS on in the server's data, with a certificate for `localhost`.
fn with_tls(data: &Path, authority: &Authority) {
    let owner = std::fs::metadata(data).expect("the data").uid();
    let (cert, key) = authority.issues(&["localhost"]);
    for (name, text) in [("server.crt", cert), ("server.key", key)] {
        let path = data.join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("0600");
        chown(&path, Some(owner), Some(owner)).expect("given to the server");
    }
    let mut config = std::fs::OpenOptions::new()
        .append(true)
        .open(data.join("postgresql.conf"))
        .expect("its settings");
    config.write_all(b"\nssl = on\n").expect("written");
}

#[tokio::test]
async fn a_database_is_believed_by_its_authority_and_its_name_alone() {
    let Ok(installation) = locate::postgres(&PostgresChoice::System, None, &|_| {}).await else {
        // The bundled server has no TLS; what its plaintext is worth is shown below.
        return;
    };
    let folder = Folder::new();
    let (authority, other) = (Authority::new("own"), Authority::new("other"));
    let dir = folder.0.join("postgres");
    let mut server = Postgres::start(&installation, &dir, false)
        .await
        .expect("it starts");
    with_tls(&dir.join("data"), &authority);
    server.restart().await.expect("it starts again");
    let (password, port) = parts(&server.admin_url("postgres"));
    let named = format!("postgres://localhost:{port}/postgres?sslmode=verify-full");

    let mut settings = settings(&named, &password, &folder);
    assert!(
        encrypted(&settings).await.is_err(),
        "public authorities know it"
    );
    settings.database_ca_file = Some(other.file(&folder.0, "foreign.crt"));
    let why = encrypted(&settings)
        .await
        .expect_err("another authority's is trusted");
    assert!(why.contains("certificate"), "{why}");
    settings.database_ca_file = Some(authority.file(&folder.0, "authority.crt"));
    assert_eq!(encrypted(&settings).await, Ok(true));

    settings.database_url = named.replace("localhost", "127.0.0.1");
    let why = encrypted(&settings)
        .await
        .expect_err("another name is trusted");
    assert!(why.contains("certificate"), "{why}");
    server.stop().await.expect("it stops");
}

#[tokio::test]
async fn a_database_that_offers_plaintext_alone_is_refused_where_verification_was_said() {
    let folder = Folder::new();
    let authority = Authority::new("own");
    let (password, port) = parts(&harness::world().postgres_admin_url);
    let url = format!("postgres://localhost:{port}/catalyst?sslmode=verify-full");
    let mut settings = settings(&url, &password, &folder);
    settings.database_ca_file = Some(authority.file(&folder.0, "authority.crt"));
    let why = encrypted(&settings).await.expect_err("refused");
    assert!(why.contains("TLS"), "{why}");
}
