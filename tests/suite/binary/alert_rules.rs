//! The file of alert rules as its operator meets it: checked by a command, read again by a running process.

use std::process::{Command, Output};

use harness::{binary, eventually};

use super::program::{Folder, Up};

fn check(file: &std::path::Path) -> Output {
    Command::new(binary())
        .args(["alerts", "check"])
        .arg(file)
        .env_remove("CATALYST_ALERT_WEBHOOK_URL")
        .output()
        .expect("the program runs")
}

#[test]
fn a_valid_file_is_shown_as_it_is_understood_and_an_invalid_one_is_named_with_65() {
    let folder = Folder::new();
    let file = folder.0.join("rules.toml");
    std::fs::write(&file, audit::rules::file::DEFAULT).expect("written");
    let shown = check(&file);
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert_eq!(shown.status.code(), Some(0), "{shown:?}");
    for cell in ["authentication-attack", "20 in 1 min", "source address"] {
        assert!(text.contains(cell), "{cell} in {text}");
    }

    let wrong = audit::rules::file::DEFAULT.replacen("threshold = 20", "threshold = 0", 1);
    let line = wrong
        .lines()
        .position(|it| it == "threshold = 0")
        .expect("it is there")
        + 1;
    std::fs::write(&file, wrong).expect("written");
    let refused = check(&file);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(65), "{said}");
    let problem =
        format!("line {line}: rule `authentication-attack`: threshold: must be 1 to 1000");
    assert!(said.contains(&problem), "{said}");
    assert_eq!(check(&folder.0.join("none.toml")).status.code(), Some(65));
}

#[tokio::test]
async fn a_running_process_keeps_the_last_good_rules_and_says_so_in_a_metric() {
    let folder = Folder::new();
    let file = folder.0.join("rules.toml");
    std::fs::write(&file, audit::rules::file::DEFAULT).expect("written");
    let rules = file.to_string_lossy().into_owned();
    let up = Up::start(&folder.0.join("data"), &["--alert-rules", &rules]).await;
    let running = std::fs::read_to_string(up.dir.join("running.json")).expect("it runs");
    let running: serde_json::Value = serde_json::from_str(&running).expect("JSON");
    let metrics = format!("{}/metrics", running["admin_url"].as_str().expect("a URL"));
    let rejected = async || {
        let text = reqwest::get(&metrics).await.ok()?.text().await.ok()?;
        let line = text
            .lines()
            .find(|line| line.starts_with("catalyst_alerts_rules_rejected"))?;
        line.rsplit(' ').next().map(str::to_owned)
    };
    eventually("good rules", async || {
        (rejected().await? == "0").then_some(())
    })
    .await;
    std::fs::write(&file, "[[rule]]\nname = \"half\"\n").expect("written");
    eventually("they are rejected", async || {
        (rejected().await? == "1").then_some(())
    })
    .await;
    let said = std::fs::read_to_string(up.dir.with_extension("log")).expect("a log");
    assert!(
        said.contains("line 1: rule `half`: missing field"),
        "{said}"
    );
    std::fs::write(&file, audit::rules::file::DEFAULT).expect("written");
    eventually("good rules again", async || {
        (rejected().await? == "0").then_some(())
    })
    .await;
}
