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
