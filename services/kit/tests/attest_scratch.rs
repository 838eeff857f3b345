extern crate self as anyhow;
extern crate self as harness;
pub async fn admin_url() -> String {
    std::env::var("ATTEST_URL").unwrap()
}
pub fn temporary_folder() -> anyhow::Result<std::path::PathBuf> {
    let d = std::env::temp_dir().join(format!("attest-pw-{}", std::process::id()));
    std::fs::create_dir_all(&d)?;
    Ok(d)
}
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;
pub trait Context<T> {
    fn context(self, what: &str) -> Result<T>;
}
impl<T, E: std::fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: &str) -> Result<T> {
        self.map_err(|e| format!("{what}: {e}").into())
    }
}
#[path = "../../../tests/suite/attest.rs"]
mod attest;
#[tokio::test]
async fn real() {
    use kit::host::*; use kit::migrate; use sqlx::{Connection, ConnectOptions};
    let admin: sqlx::postgres::PgConnectOptions = admin_url().await.parse().unwrap();
    let mut c = admin.connect().await.unwrap();
    sqlx::raw_sql("drop database if exists catalyst with (force)").execute(&mut c).await.unwrap();
    sqlx::raw_sql("create database catalyst").execute(&mut c).await.unwrap();
    let admin = admin.database("catalyst");
    let dir = temporary_folder().unwrap();
    let mut defs = vec![];
    for (name, schema) in [("tenants","tenants"),("consultants","consultants"),("projects","projects"),("time-entries","time_entries"),("audit","audit")] {
        let mut files: Vec<_> = std::fs::read_dir(format!("/work/main/services/{name}/migrations")).unwrap().map(|e| e.unwrap().path()).collect(); files.sort();
        let m: Vec<kit::migrate::Sql> = files.iter().map(|f| { let n = f.file_stem().unwrap().to_str().unwrap(); (n[..4].parse().unwrap(), &*Box::leak(n[5..].to_owned().into_boxed_str()), &*Box::leak(std::fs::read_to_string(f).unwrap().into_boxed_str())) }).collect();
        let ex: &'static [Exemption] = if name == "audit" { Box::leak(Box::new([("record", &["select"][..]),("registry",&["select"]),("miss",&["select","delete"]),("alert",&["select","update"])].map(|(table, commands)| Exemption{role:"audit_operator", table, commands, reason:""}))) } else { &[] };
        for r in ["owner","app","relay","operator"] { std::fs::write(dir.join(format!("{schema}_{r}")), "x").unwrap(); }
        defs.push(Definition { name, schema, migrations: Box::leak(m.into_boxed_slice()), grpc_services: &[], permissions: &[], subscriptions: &[], exempt_roles: if name=="audit" {&["audit_operator"]} else {&[]}, exemptions: ex });
    }
    migrate::bootstrap(&admin, &dir, &defs).await.unwrap();
    for d in &defs { migrate::migrate(&admin.clone().username(&format!("{}_owner", d.schema)).password("x"), d).await.unwrap(); }
    let mut roles = vec!["postgres".to_owned(), "audit_operator".into()]; for d in &defs { for r in ["app","relay","owner"] { roles.push(format!("{}_{r}", d.schema)); } }
    for r in roles {
        let mut c = admin.clone().username(&r).password("x").connect().await.unwrap();
        let own = expected(&defs.iter().copied().filter(|d| r.starts_with(d.schema)).collect::<Vec<_>>());
        for e in [own, expected(&defs)] { let t = std::time::Instant::now(); let f = kit::attest::attest(&mut c, &e).await.unwrap(); println!("REAL {r} {} {:?} {f:#?}", e.schemas.len(), t.elapsed()); }
        println!("SESSION {:?}", kit::attest::attest_session(&mut c, &r).await.unwrap());
    }
}
