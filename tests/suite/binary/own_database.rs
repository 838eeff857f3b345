//! Databases of their own beside the world's, with or without the schemas of the services, to break.

use std::time::Duration;

use harness::world;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};

/// A database of its own in the test server.
pub(crate) struct OwnDatabase {
    pub(crate) name: String,
    pub(crate) admin_url: String,
    /// Without a user.
    pub(crate) url: String,
}

impl OwnDatabase {
    /// An empty one.
    pub(crate) async fn new() -> Self {
        let name = format!("doctor_{}", kit::ctx::Clock::system().new_uuid().simple());
        execute(
            &world().postgres_admin_url,
            &format!("create database {name}"),
        )
        .await;
        let of = |url: &str| url.replace("/catalyst", &format!("/{name}"));
        Self {
            admin_url: of(&world().postgres_admin_url),
            url: of(&world().database_url),
            name,
        }
    }

    /// One with the schemas of all services.
    pub(crate) async fn migrated() -> Self {
        let copy = Self::new().await;
        let settings = kit::settings::DatabaseSettings {
            database_url: copy.url.clone(),
            database_max_connections: 1,
            ..world().settings.database.clone()
        };
        // Roles are the server's: two who set up the same ones at a time are refused, and try again.
        let migrate = async || {
            let migrated = catalyst::deployment::migrate_database(
                &copy.admin_url,
                &settings,
                &kit::cells::CellFolder::default(),
            )
            .await;
            migrated.ok()
        };
        let migrated = harness::within(Duration::from_secs(30), migrate).await;
        migrated.expect("migrated");
        copy.left_alone().await;
        copy
    }

    /// As the administrator.
    pub(crate) async fn execute(&self, sql: &str) {
        execute(&self.admin_url, sql).await;
        self.left_alone().await;
    }

    /// Waits until nobody is connected: the server ends a session a little after its client has gone.
    async fn left_alone(&self) {
        let mut admin = PgConnection::connect(&world().postgres_admin_url)
            .await
            .expect("connected");
        harness::eventually("nobody is connected", async || {
            let count: Result<i64, _> =
                sqlx::query_scalar("select count(*) from pg_stat_activity where datname = $1")
                    .bind(&self.name)
                    .fetch_one(&mut admin)
                    .await;
            (count.ok()? == 0).then_some(())
        })
        .await;
        admin.close().await.expect("closed");
    }

    pub(crate) async fn remove(self) {
        let drop = format!("drop database {} with (force)", self.name);
        execute(&world().postgres_admin_url, &drop).await;
    }
}

async fn execute(url: &str, sql: &str) {
    let mut session = PgConnection::connect(url).await.expect("connected");
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut session)
        .await;
    done.expect("the administrator may");
    session.close().await.expect("closed");
}
