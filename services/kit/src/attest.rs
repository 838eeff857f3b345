//! Placeholder while the rules are being written.
#![expect(
    missing_docs,
    clippy::unused_async,
    reason = "replaced in the same change"
)]
#[derive(Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
}
#[derive(Debug)]
pub struct Finding {
    pub rule: &'static str,
    pub severity: Severity,
    pub object: String,
    pub problem: String,
    pub remedy: String,
}
#[derive(Debug)]
pub struct ExemptRole {
    pub role: String,
    pub table: String,
    pub commands: Vec<String>,
    pub reason: String,
}
#[derive(Debug)]
pub struct SchemaRules {
    pub schema: String,
    pub owner: String,
    pub app: String,
    pub exempt: Vec<ExemptRole>,
    pub tenantless: Vec<(String, String)>,
}
#[derive(Debug)]
pub struct Expected {
    pub schemas: Vec<SchemaRules>,
    pub tenant_column: String,
    pub context_function: String,
    pub setting: String,
}
pub async fn attest(
    _c: &mut sqlx::postgres::PgConnection,
    _e: &Expected,
) -> Result<Vec<Finding>, sqlx::Error> {
    Ok(vec![])
}
pub async fn attest_session(
    _c: &mut sqlx::postgres::PgConnection,
    _role: &str,
) -> Result<Vec<Finding>, sqlx::Error> {
    Ok(vec![])
}
