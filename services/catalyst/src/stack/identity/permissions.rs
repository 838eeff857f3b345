//! Who may say and hear what on the bus: the one list from which every user of the services' account is made.
//! A subject that is not named here is refused.
//!
//! The server does not check the reply subject of a request. A service can therefore have an answer of
//! JetStream's (a description, an entry of the bucket, a message it may read) sent to any subject.
//! It cannot choose the content: a message keeps the subject under which its author stored it.
//! Consumers refuse what no service would publish, and inboxes absorb repeats.

use kit::ledger::{CHECKPOINTS, LedgerName};
use serde_json::{Value, json};

/// A service's name, its noun in subjects, and the durable consumers it reads, as (stream, durable).
struct Service {
    name: &'static str,
    noun: &'static str,
    durables: &'static [(&'static str, &'static str)],
}

const SERVICES: [Service; 5] = [
    Service {
        name: "tenants",
        noun: "tenants",
        durables: &[("CATALYST", "tenants")],
    },
    Service {
        name: "consultants",
        noun: "consultants",
        durables: &[],
    },
    Service {
        name: "projects",
        noun: "projects",
        durables: &[("CATALYST", "projects")],
    },
    Service {
        name: "time-entries",
        noun: "time_entries",
        durables: &[("CATALYST", "time-entries")],
    },
    Service {
        name: "audit",
        noun: "audit",
        durables: &[("CATALYST", "audit"), ("SECURITY", "audit-security")],
    },
];

/// The subjects that a user may publish and subscribe.
#[derive(Debug)]
pub(super) struct Permissions {
    publish: Vec<String>,
    subscribe: Vec<String>,
}

impl Permissions {
    /// The claims of a user with these permissions and no limits.
    pub(super) fn claims(&self) -> Value {
        // An empty list would mean everything to NATS.
        let only = |allowed: &[String]| match allowed {
            [] => json!({ "deny": [">"] }),
            some => json!({ "allow": some }),
        };
        json!({
            "type": "user",
            "version": 2,
            "pub": only(&self.publish),
            "sub": only(&self.subscribe),
            "subs": -1,
            "data": -1,
            "payload": -1,
        })
    }
}

/// Every user of the system account, by name: `sys` pushes the tokens of accounts to the servers, `auth-watch` hears
/// whom the servers turn away.
pub(super) fn of_system() -> Vec<(&'static str, Permissions)> {
    let sys = Permissions {
        publish: vec!["$SYS.REQ.CLAIMS.UPDATE".to_owned()],
        subscribe: vec!["_INBOX_sys.>".to_owned()],
    };
    let watch = Permissions {
        publish: Vec::new(),
        subscribe: vec!["$SYS.SERVER.*.CLIENT.AUTH.ERR".to_owned()],
    };
    vec![("sys", sys), ("auth-watch", watch)]
}

/// Every user of the services' account, by name.
pub(super) fn users() -> Vec<(&'static str, Permissions)> {
    let mut users: Vec<_> = SERVICES
        .iter()
        .map(|service| (service.name, of_service(service)))
        .collect();
    users.push(("migrator", of_migrator()));
    users.push(("operator", of_operator()));
    users.push((CHECKPOINTS.user, of_ledger(CHECKPOINTS)));
    users
}

fn of_service(service: &Service) -> Permissions {
    let Service {
        name,
        noun,
        durables,
    } = service;
    let mut publish = vec![
        format!("ingest.*.{noun}.*"),
        "ingest_security.*.*".to_owned(),
        format!("dead_letter.{name}.>"),
        format!("relay.{name}"),
    ];
    for (stream, durable) in *durables {
        publish.push(format!("$JS.API.CONSUMER.INFO.{stream}.{durable}"));
        publish.push(format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}"));
        publish.push(format!("$JS.ACK.{stream}.{durable}.>"));
    }
    // The bucket of tenants, to read and to watch. The client makes the watch without a name
    // and makes it again, after a gap, with one.
    publish.extend(
        [
            "$JS.API.STREAM.INFO.KV_tenants",
            "$JS.API.DIRECT.GET.KV_tenants.$KV.tenants.>",
            "$JS.API.CONSUMER.CREATE.KV_tenants",
            "$JS.API.CONSUMER.CREATE.KV_tenants.*.$KV.tenants.>",
            "$JS.API.CONSUMER.DELETE.KV_tenants.*",
            "$JS.FC.KV_tenants.>",
        ]
        .map(str::to_owned),
    );
    if *name == "tenants" {
        publish.push("$KV.tenants.>".to_owned());
    }
    Permissions {
        publish,
        // Nobody hears another's replies: each has an inbox prefix of its own.
        // Its own events as they are republished tell a cache what other replicas have changed.
        subscribe: vec![
            format!("_INBOX_{name}.>"),
            format!("relay.{name}"),
            format!("catalyst.*.{noun}.*"),
        ],
    }
}

fn of_migrator() -> Permissions {
    Permissions {
        publish: vec!["$JS.API.>".to_owned()],
        subscribe: vec!["_INBOX_migrator.>".to_owned()],
    }
}

/// Whoever appends to a ledger: it may read it, and do nothing else on the bus.
fn of_ledger(ledger: LedgerName) -> Permissions {
    let LedgerName {
        stream,
        subject,
        user,
    } = ledger;
    Permissions {
        publish: vec![
            subject.to_owned(),
            format!("$JS.API.STREAM.INFO.{stream}"),
            format!("$JS.API.STREAM.MSG.GET.{stream}"),
        ],
        subscribe: vec![format!("_INBOX_{user}.>")],
    }
}

/// A person who watches events, replays dead letters, and reads checkpoints to verify the audit logs.
fn of_operator() -> Permissions {
    Permissions {
        publish: [
            "$JS.API.STREAM.INFO.DEAD_LETTERS",
            "$JS.API.STREAM.MSG.GET.DEAD_LETTERS",
            "$JS.API.DIRECT.GET.DEAD_LETTERS.>",
            "$JS.API.CONSUMER.CREATE.DEAD_LETTERS.>",
            "$JS.API.CONSUMER.MSG.NEXT.DEAD_LETTERS.>",
            "$JS.API.CONSUMER.DELETE.DEAD_LETTERS.>",
            "$JS.ACK.DEAD_LETTERS.>",
            "$JS.API.STREAM.INFO.AUDIT_CHECKPOINTS",
            "$JS.API.CONSUMER.CREATE.AUDIT_CHECKPOINTS.>",
            "$JS.API.CONSUMER.MSG.NEXT.AUDIT_CHECKPOINTS.>",
            "$JS.API.CONSUMER.DELETE.AUDIT_CHECKPOINTS.>",
            "ingest.*.*.*",
            "ingest_security.*.*",
        ]
        .map(str::to_owned)
        .into(),
        subscribe: [
            "catalyst.>",
            "security.>",
            "dead_letter.>",
            "_INBOX_operator.>",
        ]
        .map(str::to_owned)
        .into(),
    }
}
