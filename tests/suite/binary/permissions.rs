//! `catalyst permissions`: the table of who may call what, as the contract's README shows it.

use std::path::Path;
use std::process::Command;

use harness::binary;

#[test]
fn the_contracts_readme_shows_who_may_call_each_method() {
    let printed = Command::new(binary())
        .args(["permissions", "--markdown"])
        .output()
        .expect("the program runs");
    assert!(printed.status.success());
    let table = String::from_utf8(printed.stdout).expect("text");
    assert!(
        table.lines().count() > 30,
        "the table is not whole:\n{table}"
    );
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/README.md");
    let readme = std::fs::read_to_string(readme).expect("the contract's README");
    let section = readme
        .split("\n## Who may call what\n")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .expect("a section on who may call what");
    let shown: Vec<&str> = section
        .lines()
        .filter(|line| line.starts_with('|'))
        .collect();
    let table: Vec<&str> = table.lines().collect();
    assert_eq!(
        shown, table,
        "replace the table in proto/README.md by what `cargo run --quiet -- permissions --markdown` prints"
    );
}
