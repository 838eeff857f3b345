//! The file of alert rules and sinks: what may stand in it, and what is wrong with it, line by line. Pure.
//!
//! Invariant: a set that this returns is whole: every type exists, every route leads to a sink, and severe events meet a
//! rule.

use std::fmt;
use std::sync::Arc;

use super::reader::{RawFile, Reader};
use super::{HIGH_SEVERITY, Rule, RuleSet, SinkSpec};

/// The rules that are built in, with every field explained.
pub const DEFAULT: &str = include_str!("default.toml");

/// Everything that is wrong with a file, one problem a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct BadRules(Vec<Problem>);

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) line: usize,
    pub(super) what: String,
}

impl fmt::Display for BadRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}line {}: {}", problem.line, problem.what)?;
        }
        Ok(())
    }
}

/// The built-in rules without any sink.
pub fn built_in() -> RuleSet {
    // A test holds that it parses.
    parse(DEFAULT, &[]).unwrap_or(RuleSet {
        rules: Vec::new(),
        sinks: Vec::new(),
    })
}

/// Reads a file. `sinks` are those that settings name, which its rules may route to as well.
pub fn parse(text: &str, sinks: &[SinkSpec]) -> Result<RuleSet, BadRules> {
    let raw: RawFile = toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let what = format!("{}{}", section_at(text, start), error.message());
        BadRules(vec![Problem {
            line: line_of(text, start),
            what,
        }])
    })?;
    let mut reader = Reader::new(text);
    let mut all_sinks = sinks.to_vec();
    for sink in &raw.sink {
        reader.place = format!("sink `{}`", sink.get_ref().name.get_ref());
        let sink = reader.sink(sink, &all_sinks);
        all_sinks.push(sink);
    }
    let mut rules: Vec<Arc<Rule>> = Vec::with_capacity(raw.rule.len() + 1);
    for rule in &raw.rule {
        reader.place = format!("rule `{}`", rule.get_ref().name.get_ref());
        let rule = reader.rule(rule, &rules, &all_sinks);
        rules.push(Arc::new(rule));
    }
    if !reader.problems.is_empty() {
        reader.problems.sort_by_key(|problem| problem.line);
        return Err(BadRules(reader.problems));
    }
    if !rules.iter().any(|rule| rule.name == HIGH_SEVERITY) && text != DEFAULT {
        let last = built_in().rules.pop();
        rules.extend(last);
    }
    Ok(RuleSet {
        rules,
        sinks: all_sinks,
    })
}

pub(super) fn line_of(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    before.bytes().filter(|byte| *byte == b'\n').count() + 1
}

/// Names the rule or the sink around an offset of a text that could not be read, as far as its lines tell.
fn section_at(text: &str, offset: usize) -> String {
    let line = line_of(text, offset);
    let is_head = |text: &&str| text.trim_start().starts_with("[[");
    let lines: Vec<&str> = text.lines().collect();
    let above = lines.get(..line.min(lines.len())).unwrap_or_default();
    let Some(start) = above.iter().rposition(is_head) else {
        return String::new();
    };
    let section = lines.get(start + 1..).unwrap_or_default();
    let mut own = section.iter().take_while(|line| !is_head(line));
    let name = own.find_map(|line| line.trim_start().strip_prefix("name")?.split('"').nth(1));
    let kind = above.get(start).map_or("", |head| {
        head.trim().trim_matches(|c| c == '[' || c == ']')
    });
    match name {
        Some(name) => format!("{kind} `{name}`: "),
        None => format!("a {kind} without a name: "),
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;
    use crate::rules::GroupBy;

    const RULE: &str = r#"[[rule]]
name = "denials"
title = "t"
description = "d"
severity = "LOW"
match = { types = ["PermissionDenied"] }
"#;

    fn problems(text: &str) -> String {
        parse(text, &[]).expect_err("not valid").to_string()
    }

    fn with(line: &str) -> String {
        format!("{RULE}{line}\n")
    }

    #[test]
    fn the_built_in_rules_are_valid_and_say_what_they_do_not_leave_out() {
        let set = parse(DEFAULT, &[]).unwrap();
        assert_eq!(set, built_in());
        assert_eq!(set.rules.last().unwrap().name, HIGH_SEVERITY);
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let set = parse(RULE, &[]).unwrap();
        let rule = &set.rules[0];
        assert_eq!(
            (rule.threshold, rule.group_by.as_slice()),
            (1, [GroupBy::Actor].as_slice())
        );
        assert_eq!(
            (rule.repeat_within, &rule.routes),
            (Duration::minutes(5), &None)
        );
    }

    #[test]
    fn severe_events_meet_a_rule_whatever_the_file_says() {
        let names = |text: &str| {
            let set = parse(text, &[]).unwrap();
            set.rules
                .iter()
                .map(|it| it.name.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(RULE), ["denials", HIGH_SEVERITY]);
        assert_eq!(names(""), [HIGH_SEVERITY]);
    }

    #[test]
    fn each_problem_names_its_line_its_rule_its_field_and_the_remedy() {
        for (line, problem) in [
            (
                "threshold = 0",
                "line 7: rule `denials`: threshold: must be 1 to 1000",
            ),
            (
                "threshold = 5",
                "line 1: rule `denials`: window: is required with a threshold above 1",
            ),
            (
                "window = \"5 minutes\"",
                "line 7: rule `denials`: window: must be a whole number with its unit",
            ),
            (
                "window = \"25h\"",
                "line 7: rule `denials`: window: must be",
            ),
            (
                "group_by = [\"acter\"]",
                "line 7: rule `denials`: group_by: must be of \"actor\"",
            ),
            (
                "routes = [\"oncall\"]",
                "line 7: rule `denials`: routes: no sink is named `oncall`: there is none; add",
            ),
            (
                "thresold = 5",
                "line 7: rule `denials`: unknown field `thresold`",
            ),
            ("threshold = \"5\"", "line 7: rule `denials`: invalid type"),
            ("threshold = ", "line 7: rule `denials`: "),
        ] {
            let found = problems(&with(line));
            assert!(found.contains(problem), "{line}: {found}");
        }
        for (from, to, problem) in [
            (
                "PermissionDenied",
                "PermissionDenid",
                "line 6: rule `denials`: match.types: no event is named `PermissionDenid`",
            ),
            (
                "PermissionDenied",
                "catalyst.audit.v1.AlertRaised",
                "match.types: no event",
            ),
            (
                "\"LOW\"",
                "\"low\"",
                "line 5: rule `denials`: severity: must be \"LOW\"",
            ),
            (
                "denials",
                "Denials!",
                "line 2: rule `Denials!`: name: must be lowercase",
            ),
            (
                "\"t\"",
                "\"\"",
                "line 3: rule `denials`: title: must have 1 to 200",
            ),
            (
                "{ types = [\"PermissionDenied\"] }",
                "{}",
                "line 6: rule `denials`: match: chooses nothing",
            ),
            (
                "] }",
                "], reasons = [\"EXPIRED\"] }",
                "match.reasons: needs `types` whose events give a reason",
            ),
            (
                "severity = \"LOW\"\n",
                "",
                "rule `denials`: missing field `severity`",
            ),
        ] {
            let found = problems(&RULE.replacen(from, to, 1));
            assert!(found.contains(problem), "{to}: {found}");
        }
    }

    #[test]
    fn all_problems_are_told_at_once_in_the_order_of_their_lines() {
        let text = format!("{RULE}threshold = 0\n{RULE}routes = [\"x\"]\n");
        let found = problems(&text);
        let lines: Vec<&str> = found
            .lines()
            .filter_map(|it| it.split(':').next())
            .collect();
        assert_eq!(lines, ["line 7", "line 9", "line 14"], "{found}");
    }

    #[test]
    fn a_sink_names_where_its_secret_is_and_never_the_secret() {
        let webhook = "[[sink]]\nname = \"oncall\"\ntype = \"webhook\"\nurl = \"https://x\"\n";
        assert!(problems(webhook).contains("line 1: sink `oncall`: secret_file: is required"));
        let right = format!(
            "{webhook}secret_file = \"/s\"\n{}",
            with("routes = [\"oncall\"]")
        );
        let set = parse(&right, &[]).unwrap();
        assert_eq!(set.routes_of(&set.rules[0]).len(), 1);
        let inline = format!("{webhook}secret = \"whsec_x\"\n");
        assert!(problems(&inline).contains("unknown field `secret`"));
        let again = parse(&right, &set.sinks).expect_err("twice").to_string();
        assert!(
            again.contains("sink `oncall`: name: is that of another sink"),
            "{again}"
        );
    }
}
