//! A Prometheus Alertmanager, by its API v2.
//!
//! An Alertmanager forgets: an alert that is not sent again ends by itself, and a restart loses all of them. So an open
//! alert is sent every minute, each time to end five minutes later, and once more with its end when it is acknowledged.
//! The labels are the alert's identity there: the same alert sent again, or twice, is the same alert. An alert that no
//! one acknowledges within a day of its last event lapses there; it stays open in Catalyst.
//! Labels and annotations name the alert's own tenant and nobody else, unless the sink is to name offenders.

use kit::telemetry;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::sinks::{Refusal, instant, severity_word};
use crate::store::alerts::told;
use crate::store::deliveries::Due;

/// How often an open alert is sent.
const AGAIN: Duration = Duration::minutes(1);
/// When it would end there if it were not sent again: a few tries may fail.
const ENDS_AFTER: Duration = Duration::minutes(5);
/// How long after its last event an alert that no one acknowledges is sent.
const LAPSES_AFTER: Duration = Duration::DAY;

/// A configured Alertmanager.
#[derive(Debug)]
pub(crate) struct Alertmanager {
    alerts: reqwest::Url,
    token: Option<SecretString>,
    names_offender: bool,
}

impl Alertmanager {
    /// An Alertmanager at its base URL; none when nothing can be under the URL.
    pub(crate) fn new(
        mut url: reqwest::Url,
        token: Option<SecretString>,
        names_offender: bool,
    ) -> Option<Self> {
        let mut path = url.path_segments_mut().ok()?;
        path.pop_if_empty().extend(["api", "v2", "alerts"]);
        drop(path);
        Some(Self {
            alerts: url,
            token,
            names_offender,
        })
    }

    /// Sends the alert as it is now: firing, or over.
    pub(crate) async fn send(
        &self,
        http: &reqwest::Client,
        due: &Due,
        now: OffsetDateTime,
    ) -> Result<(), Refusal> {
        let body = json!([self.alert(due, now)]).to_string();
        let mut request = http
            .post(self.alerts.clone())
            .header("content-type", "application/json");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose_secret());
        }
        if let Some(traceparent) = telemetry::current_traceparent() {
            request = request.header("traceparent", traceparent);
        }
        Refusal::of(request.body(body).send().await)
    }

    fn alert(&self, due: &Due, now: OffsetDateTime) -> serde_json::Value {
        let (title, description) = told(&due.rule, due.title.clone(), due.description.clone());
        let mut annotations = json!({
            "summary": title,
            "description": description,
            "occurrences": due.occurrences.to_string(),
            "first_occur_time": instant(due.first_at),
            "last_occur_time": instant(due.last_at),
        });
        if let (true, Some(tenant), Some(id), Some(annotations)) = (
            self.names_offender,
            due.offender_tenant_id,
            &due.offender_id,
            annotations.as_object_mut(),
        ) {
            annotations.insert("offender_tenant".to_owned(), tenant.to_string().into());
            annotations.insert("offender".to_owned(), id.clone().into());
        }
        json!({
            "labels": {
                "alertname": due.rule,
                "severity": severity_word(due.severity).to_lowercase(),
                "tenant": due.tenant_id,
                "alert_id": due.id,
                "job": "catalyst",
            },
            "annotations": annotations,
            "startsAt": instant(due.created_at),
            "endsAt": instant(ends_at(due, now)),
        })
    }
}

fn ends_at(due: &Due, now: OffsetDateTime) -> OffsetDateTime {
    match due.acknowledged_at {
        Some(at) => at.max(due.created_at),
        None => now + ENDS_AFTER,
    }
}

/// When an alert that was accepted is sent again; none when it is over, or lapses.
pub(crate) fn again_at(due: &Due, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let is_open = due.acknowledged_at.is_none() && now - due.last_at < LAPSES_AFTER;
    is_open.then_some(now + AGAIN)
}

#[cfg(test)]
mod tests {
    use kit::ids::Id;
    use uuid::Uuid;

    use super::*;

    fn due(acknowledged_at: Option<i64>) -> Due {
        let at = OffsetDateTime::UNIX_EPOCH;
        Due {
            tenant_id: Uuid::from_u128(1),
            id: Id::new(Uuid::from_u128(2)),
            rule: "cross-tenant-access".to_owned(),
            title: Some("t".to_owned()),
            description: Some("d".to_owned()),
            severity: 4,
            occurrences: 10_000,
            first_at: at,
            last_at: at,
            created_at: at,
            acknowledged_at: acknowledged_at.map(|second| at + Duration::seconds(second)),
            traceparent: None,
            state: "open".to_owned(),
            resolves: true,
            attempts: 1,
            offender_tenant_id: Some(Uuid::from_u128(0xbad)),
            offender_kind: Some("user".to_owned()),
            offender_id: Some("mallory".to_owned()),
        }
    }

    fn manager(names_offender: bool) -> Alertmanager {
        let url = "http://alertmanager:9093/prefix/".parse().unwrap();
        Alertmanager::new(url, None, names_offender).unwrap()
    }

    #[test]
    fn the_path_of_the_api_follows_the_prefix() {
        let url = "http://alertmanager:9093/prefix/api/v2/alerts";
        assert_eq!(manager(false).alerts.as_str(), url);
    }

    #[test]
    fn an_open_alert_ends_later_and_an_acknowledged_one_when_it_was() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::minutes(10);
        let ends = |due: &Due| manager(false).alert(due, now)["endsAt"].clone();
        assert_eq!(ends(&due(None)), "1970-01-01T00:15:00Z");
        assert_eq!(ends(&due(Some(60))), "1970-01-01T00:01:00Z");
        assert_eq!(again_at(&due(None), now), Some(now + AGAIN));
        assert_eq!(again_at(&due(Some(60)), now), None);
        assert_eq!(again_at(&due(None), now + LAPSES_AFTER), None);
    }

    #[test]
    fn the_offender_is_named_only_to_who_may_know() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let shown = |names| manager(names).alert(&due(None), now).to_string();
        assert!(!shown(false).contains("mallory") && !shown(false).contains("bad"));
        assert!(shown(true).contains("mallory"));
    }
}
