//! `catalyst doctor` as a program: sound, departing and unreachable deployments, and schemas of somebody else.

use std::process::{Command, Output};

use harness::{binary, world};
use serde_json::Value;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;

use super::own_database::OwnDatabase;
use super::program::{Folder, serve_command};

/// The doctor in the environment of the world's deployment, with some variables changed.
fn doctor(arguments: &[&str], changes: &[(&str, &str)]) -> Output {
    let like = serve_command("all", changes);
    let mut command = Command::new(binary());
    command.arg("doctor").args(arguments).env_clear();
    for (name, value) in like.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    command.output().expect("the program runs")
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    lines.collect()
}

fn exits(output: &Output, code: i32) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{said}{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

#[tokio::test]
async fn the_doctor_finds_the_running_deployment_sound() {
    let output = doctor(&["--json"], &[]);
    exits(&output, 0);
    let said = lines(&output);
    for part in ["database", "bus", "identity"] {
        assert!(
            said.iter()
                .any(|line| line["part"] == part && line["checked"].is_string()),
            "{said:?}"
        );
    }
}

#[tokio::test]
async fn a_hole_is_named_with_the_sql_that_closes_it() {
    let copy = OwnDatabase::migrated().await;
    let here = [("CATALYST_DATABASE_URL", copy.url.as_str())];
    exits(&doctor(&["--only", "database"], &here), 0);

    copy.execute(
        "alter policy tenant_isolation on projects.project
             using (tenant_id = coalesce(app.current_tenant_id(), tenant_id));
         alter table time_entries.time_entry no force row level security;
         grant truncate on audit.record to audit_app",
    )
    .await;
    let broken = doctor(&["--only", "database", "--json"], &here);
    exits(&broken, 1);
    let errors: Vec<Value> = lines(&broken)
        .into_iter()
        .filter(|line| line["severity"] == "error")
        .collect();
    let named = |rule: &str, object: &str| {
        errors
            .iter()
            .any(|line| line["rule"] == rule && line["object"] == object)
    };
    assert!(named("policy-not-tenant", "projects.project"), "{errors:?}");
    assert!(
        named("rls-not-forced", "time_entries.time_entry"),
        "{errors:?}"
    );
    assert!(named("granted-too-much", "audit.record"), "{errors:?}");
    for finding in &errors {
        assert_eq!(finding["sql"], true, "{finding}");
        assert!(!finding["why"].as_str().expect("a sentence").is_empty());
        copy.execute(finding["remedy"].as_str().expect("SQL")).await;
    }
    exits(&doctor(&["--only", "database"], &here), 0);

    copy.execute("delete from projects._migration where version = 104")
        .await;
    let behind = doctor(&["--only", "database"], &here);
    exits(&behind, 1);
    let said = String::from_utf8_lossy(&behind.stdout).into_owned();
    assert!(said.contains("projects/0104_get_project"), "{said}");
    copy.remove().await;
}

#[tokio::test]
async fn a_session_of_the_owner_is_named() {
    let copy = OwnDatabase::migrated().await;
    let password = std::fs::read_to_string(world().password_dir.join("projects_owner"));
    let options = copy
        .url
        .parse::<sqlx::postgres::PgConnectOptions>()
        .expect("a URL");
    let options = options
        .username("projects_owner")
        .password(password.expect("its password").trim())
        .application_name("billing");
    let owner = PgConnection::connect_with(&options)
        .await
        .expect("connected");
    let found = doctor(
        &["--only", "database", "--json"],
        &[("CATALYST_DATABASE_URL", &copy.url)],
    );
    exits(&found, 1);
    let said = lines(&found);
    let named = said.iter().any(|line| {
        line["rule"] == "live-owner"
            && line["object"] == "projects_owner"
            && line["problem"]
                .as_str()
                .is_some_and(|problem| problem.contains("billing"))
    });
    assert!(named, "{said:?}");
    owner.close().await.expect("closed");
    copy.remove().await;
}

#[tokio::test]
async fn what_cannot_be_checked_is_said_with_2() {
    let away = doctor(
        &[],
        &[("CATALYST_DATABASE_URL", "postgres://127.0.0.1:1/catalyst")],
    );
    exits(&away, 2);
    let said = String::from_utf8_lossy(&away.stderr).into_owned();
    assert!(said.contains("database: not checked"), "{said}");
    assert!(
        said.contains("bus: checked") && said.contains("identity: checked"),
        "{said}"
    );

    let mut alone = Command::new(binary());
    alone.args(["doctor", "--json"]).env_clear();
    alone.env("CATALYST_DATABASE_URL", &world().database_url);
    alone.env("CATALYST_DATABASE_PASSWORD_DIR", &world().password_dir);
    let partly = alone.output().expect("the program runs");
    exits(&partly, 2);
    let missing: Vec<Value> = lines(&partly)
        .into_iter()
        .filter(|line| line["not_checked"].is_string())
        .collect();
    assert_eq!(missing.len(), 2, "{missing:?}");
    assert_eq!(missing[0]["not_checked"], "CATALYST_NATS_URL is not set");
    alone.args(["--only", "database"]);
    exits(&alone.output().expect("the program runs"), 0);
}

#[tokio::test]
async fn a_key_set_that_cannot_be_used_is_named() {
    let keys = world().workload_dir.join("jwks.json");
    let keys = keys.to_string_lossy();
    for (changes, problem) in [
        ([("CATALYST_AUTH_JWKS", "/nonexistent")], "cannot read"),
        (
            [(
                "CATALYST_WORKLOAD_JWKS",
                &*world().issuer_jwks.to_string_lossy(),
            )],
            "has no key of audit",
        ),
    ] {
        let output = doctor(&["--only", "identity", "--json"], &changes);
        exits(&output, 1);
        let said = lines(&output);
        let named = said.iter().any(|line| {
            line["rule"] == "keys-unusable"
                && line["problem"]
                    .as_str()
                    .is_some_and(|text| text.contains(problem))
        });
        assert!(named, "{said:?}");
    }
    exits(
        &doctor(&["--only", "identity"], &[("CATALYST_AUTH_JWKS", &keys)]),
        0,
    );
}

#[tokio::test]
async fn every_rule_says_why_it_matters() {
    let listed = doctor(&["--rules", "--json"], &[]);
    exits(&listed, 0);
    let rules = lines(&listed);
    for rule in kit::attest::explained() {
        assert!(
            rules.iter().any(|line| line["rule"] == rule.rule),
            "{}",
            rule.rule
        );
    }
    for line in &rules {
        assert!(
            line["why"].as_str().is_some_and(|why| why.len() > 20),
            "{line}"
        );
    }
    let one = doctor(&["--explain", "rls-not-forced"], &[]);
    exits(&one, 0);
    assert!(String::from_utf8_lossy(&one.stdout).contains("owner"));
    exits(&doctor(&["--explain", "nonsense"], &[]), 64);
}

/// The rules know no name of ours: a shop with names of its own is judged by a file that says what is expected.
#[tokio::test]
async fn schemas_of_somebody_else_are_judged_by_a_file() {
    let copy = OwnDatabase::new().await;
    let shop = include_str!("shop.sql").replace("{run}", &copy.name);
    copy.execute(&shop).await;
    let folder = Folder::new();
    let file = folder.0.join("expected.toml");
    let expected = include_str!("shop.toml").replace("{run}", &copy.name);
    std::fs::write(&file, expected).expect("written");
    let file = file.to_string_lossy().into_owned();
    let app = format!("postgres://{}_web:shop@", copy.name);
    let url = copy.url.replace("postgres://", &app);
    let judge = || {
        let mut command = Command::new(binary());
        command.args([
            "doctor",
            "--json",
            "--expected",
            &file,
            "--database-url",
            &url,
        ]);
        command.env_clear().output().expect("the program runs")
    };
    let sound = judge();
    exits(&sound, 0);
    let findings: Vec<Value> = lines(&sound)
        .into_iter()
        .filter(|line| line["rule"].is_string())
        .collect();
    assert!(findings.is_empty(), "{findings:?}");

    copy.execute(
        "alter policy \"Own rows\" on \"Shop\".\"Order\" using (\"TenantId\" = \"Ctx\".\"Tenant\"() or paid)",
    )
    .await;
    let open = judge();
    exits(&open, 1);
    let said = lines(&open);
    let found = said.iter().find(|line| line["rule"] == "policy-not-tenant");
    let found = found.unwrap_or_else(|| panic!("{said:?}"));
    assert_eq!(found["object"], "\"Shop\".\"Order\"");
    copy.execute(found["remedy"].as_str().expect("SQL")).await;
    exits(&judge(), 0);

    std::fs::write(&file, "nonsense = 1").expect("written");
    exits(&judge(), 64);
    let roles = format!(
        "drop owned by {0}_web; drop owned by {0}_boss cascade; drop role {0}_web, {0}_boss",
        copy.name
    );
    copy.execute(&roles).await;
    copy.remove().await;
}
