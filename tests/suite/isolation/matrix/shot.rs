//! What a cell of the matrix is made of: calls, a judge of their answers, and the events that must be on record.

use harness::{Caller, Probe};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// One call.
pub(super) struct Call {
    pub(super) caller: Caller,
    /// `catalyst.projects.v1.ProjectService/GetProject`, or what an attack makes of it.
    pub(super) path: String,
    pub(super) message: Vec<u8>,
    /// Whose log a refusal lands in.
    pub(super) tenant: String,
    /// Under whom it lands there; no other cell uses the same one, but for services.
    pub(super) actor: String,
    /// Whether nothing of the other tenant may be in the answer.
    pub(super) is_attackers: bool,
}

impl Call {
    /// The event that this call must leave in its tenant's log.
    pub(super) fn event(&self, type_name: &str, severity: &'static str) -> Event {
        Event::Recorded {
            tenant: self.tenant.clone(),
            actor: self.actor.clone(),
            type_name: type_name.to_owned(),
            severity: severity.to_owned(),
            method: self.path.clone(),
        }
    }
}

/// What must be on record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// A security event of a verified tenant, once for each time that it is asked for.
    Recorded {
        tenant: String,
        actor: String,
        type_name: String,
        severity: String,
        method: String,
    },
    /// One more refused token from an address.
    Unverified {
        source: String,
        failure: &'static str,
        severity: &'static str,
    },
    /// A change in the tenant's name, by this actor and in no other name.
    Acted { tenant: String, actor: String },
}

/// Judges the answers, in the order of the calls: what is wrong with them, or what must be on record.
type Judge = Box<dyn Fn(&[Call], &[Probe]) -> Result<Vec<Event>, String> + Send + Sync>;

/// One try of an attack.
pub(super) struct Shot {
    /// Which try of the cell: `iat in an hour`.
    pub(super) note: String,
    pub(super) calls: Vec<Call>,
    pub(super) judge: Judge,
}

impl Shot {
    pub(super) fn new(
        note: impl Into<String>,
        calls: Vec<Call>,
        judge: impl Fn(&[Call], &[Probe]) -> Result<Vec<Event>, String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            note: note.into(),
            calls,
            judge: Box::new(judge),
        }
    }

    /// Calls that are all refused alike; each leaves the event.
    pub(super) fn refused(
        note: impl Into<String>,
        calls: Vec<Call>,
        code: Code,
        reason: &'static str,
        event: Option<(&'static str, &'static str)>,
    ) -> Self {
        Self::new(note, calls, move |calls, answers| {
            all_alike(answers)?;
            for answer in answers {
                is_refusal(answer, code, reason)?;
            }
            let events = calls.iter().filter_map(|call| {
                let (type_name, severity) = event?;
                Some(call.event(type_name, severity))
            });
            Ok(events.collect())
        })
    }

    /// A call that succeeds as if the attack were not there, and leaves no security event.
    pub(super) fn harmless(note: impl Into<String>, call: Call, acts: bool) -> Self {
        Self::new(note, vec![call], move |calls, answers| {
            is_code(&answers[0], Code::Ok)?;
            let acted = acts.then(|| Event::Acted {
                tenant: calls[0].tenant.clone(),
                actor: calls[0].actor.clone(),
            });
            Ok(acted.into_iter().collect())
        })
    }
}

/// The machine-readable reason of a refusal.
pub(super) fn reason(answer: &Probe) -> String {
    let status = Status::with_details(
        answer.code,
        answer.message.clone(),
        answer.details.clone().into(),
    );
    let details = status.get_error_details();
    details
        .error_info()
        .filter(|found| found.domain == "catalyst")
        .map(|found| found.reason.clone())
        .unwrap_or_default()
}

/// Whether the refusal says when to come again.
pub(super) fn says_when(answer: &Probe) -> bool {
    let status = Status::with_details(
        answer.code,
        answer.message.clone(),
        answer.details.clone().into(),
    );
    status
        .get_error_details()
        .retry_info()
        .is_some_and(|retry| retry.retry_delay.is_some())
}

pub(super) fn is_code(answer: &Probe, code: Code) -> Result<(), String> {
    if answer.code == code {
        return Ok(());
    }
    Err(format!(
        "expected {code:?}, got {:?} {} ({})",
        answer.code,
        reason(answer),
        answer.message
    ))
}

pub(super) fn is_refusal(answer: &Probe, code: Code, expected: &str) -> Result<(), String> {
    is_code(answer, code)?;
    let found = reason(answer);
    if found == expected {
        return Ok(());
    }
    Err(format!("expected {code:?} {expected}, got {found:?}"))
}

/// Nothing that a caller can observe tells the answers apart.
pub(super) fn all_alike(answers: &[Probe]) -> Result<(), String> {
    let Some((first, others)) = answers.split_first() else {
        return Ok(());
    };
    match others.iter().find(|other| *other != first) {
        None => Ok(()),
        Some(other) => Err(format!("answers differ: {first:?} and {other:?}")),
    }
}
