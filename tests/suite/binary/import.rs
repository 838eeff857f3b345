//! `catalyst import` on a running system: what it creates, what it refuses, and that a repeat changes nothing.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::program::{Folder, Up};

const MAPPING: &str = r#"
date_formats = ["%Y-%m-%d %H:%M"]
zone = "UTC"

[columns]
external_id = "id"
client = "client"
project = "project"
consultant = "person"
started_at = "start"
ended_at = "end"
break_minutes = "break"
note = "note"
"#;

/// `rows` entries of eight people, an hour each with ten minutes of break, and four rows that cannot be taken:
/// a date that is none, an end before the start, a day and a half, and an overlap.
fn log_of(rows: usize) -> String {
    let mut text = String::from("id,client,project,person,start,end,break,note\n");
    for i in 0..rows {
        let (day, hour, person) = (i / 8 / 10 % 28 + 1, i / 8 % 10 + 8, i % 8);
        let month = i / 8 / 10 / 28 + 1;
        writeln!(
            text,
            "{i},c{},p{},k{person},2026-{month:02}-{day:02} {hour:02}:00,2026-{month:02}-{day:02} {:02}:00,10,\"row {i}\"",
            i % 3,
            i % 3,
            hour + 1,
        )
        .expect("a line");
    }
    text.push_str("bad-date,c0,p0,k0,yesterday,2026-12-01 09:00,0,\n");
    text.push_str("reversed,c0,p0,k0,2026-12-01 10:00,2026-12-01 09:00,0,\n");
    text.push_str("too-long,c0,p0,k0,2026-12-01 10:00,2026-12-02 23:00,0,\n");
    text.push_str("overlap,c0,p0,k0,2026-01-01 08:30,2026-01-01 08:45,0,\n");
    text
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path
}

/// Runs the import; its numbers.
fn import(up: &Up, folder: &Path, file: &Path, more: &[&str]) -> Value {
    let mapping = write(folder, "mapping.toml", MAPPING);
    let rejects = folder.join("rejects.csv");
    let (file, mapping, rejects) = (text(file), text(&mapping), text(&rejects));
    let mut arguments = vec![
        "--tenant",
        "acme",
        "--json",
        "import",
        &file,
        "--mapping",
        &mapping,
        "--rejects",
        &rejects,
    ];
    arguments.extend_from_slice(more);
    let printed = up.succeeds(&arguments);
    serde_json::from_str(printed.trim()).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn count(numbers: &Value, name: &str) -> u64 {
    numbers[name]
        .as_u64()
        .unwrap_or_else(|| panic!("no {name} in {numbers}"))
}

#[tokio::test]
async fn an_import_accounts_for_every_row_and_a_repeat_changes_nothing() {
    let folder = Folder::new();
    let mut up = Up::start(&folder.0.join("data"), &[]).await;
    let file = write(&folder.0, "log.csv", &log_of(2_000));

    let first = import(&up, &folder.0, &file, &[]);
    assert_eq!(
        (count(&first, "read"), count(&first, "created")),
        (2_004, 2_000),
        "{first}"
    );
    assert_eq!(count(&first, "workedMinutes"), 2_000 * 50, "{first}");
    let rejects = std::fs::read_to_string(folder.0.join("rejects.csv")).expect("the rejects");
    assert_eq!(rejects.lines().count(), 5, "{rejects}");
    for id in ["bad-date", "reversed", "too-long", "overlap"] {
        assert!(rejects.contains(id), "{id} is not told: {rejects}");
    }

    let again = import(&up, &folder.0, &file, &[]);
    assert_eq!(
        (count(&again, "created"), count(&again, "alreadyThere")),
        (0, 2_000),
        "{again}"
    );
    let kept = import(&up, &folder.0, &file, &["--overlaps", "keep"]);
    assert_eq!(
        (count(&kept, "created"), count(&kept, "keptOverlapping")),
        (0, 1),
        "{kept}"
    );

    let summary = up.succeeds(&[
        "--tenant",
        "acme",
        "--json",
        "time-entries",
        "summarize",
        "--by",
        "project",
    ]);
    let entries: u64 = summary
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|row| {
            row["entries"]
                .as_str()
                .expect("a count")
                .parse::<u64>()
                .expect("a number")
        })
        .sum();
    assert_eq!(entries, 2_001);
    assert_eq!(up.signal("-INT").await.0, Some(0));
}

#[tokio::test]
async fn an_import_killed_in_the_middle_and_repeated_ends_in_the_same_state() {
    let folder = Folder::new();
    let mut up = Up::start(&folder.0.join("data"), &[]).await;
    let file = write(&folder.0, "log.csv", &log_of(12_000));
    let mapping = write(&folder.0, "mapping.toml", MAPPING);
    let mut killed = std::process::Command::new(harness::binary())
        .arg("--data-dir")
        .arg(&up.dir)
        .args(["--tenant", "acme", "import"])
        .args([
            &file,
            Path::new("--mapping"),
            &mapping,
            Path::new("--rejects"),
            &folder.0.join("first.csv"),
        ])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("the program starts");
    let stored = || {
        let summary = up.succeeds(&["--tenant", "acme", "--json", "time-entries", "summarize"]);
        summary
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|row| {
                row["entries"]
                    .as_str()
                    .and_then(|count| count.parse::<u64>().ok())
            })
            .sum::<u64>()
    };
    harness::within(std::time::Duration::from_secs(30), async || {
        (stored() > 0).then_some(())
    })
    .await;
    killed.kill().expect("killed");
    killed.wait().expect("ended");

    let again = import(&up, &folder.0, &file, &[]);
    assert_eq!(
        count(&again, "created") + count(&again, "alreadyThere"),
        12_000,
        "{again}"
    );
    assert_eq!(stored(), 12_000);
    assert_eq!(up.signal("-INT").await.0, Some(0));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named_with_what_to_do() {
    let folder = Folder::new();
    let mut up = Up::start(&folder.0.join("data"), &[]).await;
    let mapping = text(&write(&folder.0, "mapping.toml", MAPPING));
    let missing = text(&folder.0.join("missing.csv"));
    let columns = text(&write(&folder.0, "columns.csv", "id,who\n1,2\n"));
    let binary = text(&write(&folder.0, "binary.csv", "PK\u{3}\u{4}\u{0}\u{0}"));
    for (file, named) in [
        (&missing, "missing.csv"),
        (&columns, "client"),
        (&binary, "binary.csv"),
    ] {
        let refused = up.run(&["--tenant", "acme", "import", file, "--mapping", &mapping]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(65), "{said}");
        assert!(said.contains(named), "{said}");
    }
    assert_eq!(up.signal("-INT").await.0, Some(0));
}
