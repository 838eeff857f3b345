//! What could be tried on the bus, and which users need it: the expectation beside which live permissions are held.
//!
//! It is made from the services' definitions and not from the permissions that are issued, so that neither list can
//! hide a mistake of the other. What a user is not named for is forbidden to it. Pure.

use kit::events::Stream;
use kit::host::Definition;
use kit::ledger::CHECKPOINTS;

use crate::services;

/// The stand-in for a user of a tenant; it has no credentials of its own in a deployment.
pub const TENANT: &str = "tenant";
/// The tenant that [`TENANT`] is of.
pub const OWN: &str = "0190d0c7-0000-7000-8000-00000000000a";
/// Another tenant.
pub const OTHER: &str = "0190d0c7-0000-7000-8000-00000000000b";

const MIGRATOR: &str = "migrator";
const OPERATOR: &str = "operator";
const SYSTEM: &str = "sys";
const WATCHER: &str = "auth-watch";

/// What is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// To subscribe.
    Hear,
    /// To subscribe as one of a group, which would take messages from others.
    Share,
    /// To publish.
    Say,
}

/// A kind of operation, and the names of the two ways in which it can be amiss.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Someone may who must not.
    pub may: &'static str,
    /// Someone may not who must.
    pub cannot: &'static str,
    /// What follows from the former.
    pub why: &'static str,
}

const EVENTS: Rule = Rule {
    may: "nats-user-hears-all",
    cannot: "nats-user-cannot-hear",
    why: "it hears events of every tenant",
};
const REPLIES: Rule = Rule {
    may: "nats-user-hears-replies-of-others",
    cannot: "nats-user-cannot-hear-own-replies",
    why: "it hears what is answered to others",
};
const PUBLISH: Rule = Rule {
    may: "nats-user-may-publish-foreign-noun",
    cannot: "nats-user-cannot-publish-own",
    why: "it can speak in another's name",
};
const ADMINISTER: Rule = Rule {
    may: "nats-user-may-administer-streams",
    cannot: "nats-user-cannot-administer-streams",
    why: "it can remove events, or the place where they are kept",
};
const READ: Rule = Rule {
    may: "nats-user-may-read-streams",
    cannot: "nats-user-cannot-read-streams",
    why: "it reads stored events of every tenant",
};
const DURABLE: Rule = Rule {
    may: "nats-user-may-read-foreign-durable",
    cannot: "nats-user-cannot-read-own-durable",
    why: "it can take events from their consumer, and acknowledge what that never applied",
};
const DIRECTORY: Rule = Rule {
    may: "nats-user-may-write-directory",
    cannot: "nats-user-cannot-use-directory",
    why: "it can let a suspended tenant in, or shut one out",
};
const SYSTEM_ACCOUNT: Rule = Rule {
    may: "nats-user-may-use-system-account",
    cannot: "nats-user-cannot-use-system-account",
    why: "it can replace the accounts of the bus",
};

/// Every rule of the trial.
pub const RULES: [&Rule; 8] = [
    &EVENTS,
    &REPLIES,
    &PUBLISH,
    &ADMINISTER,
    &READ,
    &DURABLE,
    &DIRECTORY,
    &SYSTEM_ACCOUNT,
];

/// One thing to try. Trying leaves nothing behind, whether it is refused or not.
#[derive(Clone, Debug)]
pub struct Operation {
    /// How.
    pub verb: Verb,
    /// Where.
    pub subject: String,
    /// Who needs it; it is forbidden to everyone else.
    pub needed_by: Vec<&'static str>,
    /// What it is amiss with when that is not so.
    pub rule: &'static Rule,
}

/// Every user of a deployment, by the name of its credentials file.
pub fn users() -> Vec<&'static str> {
    let mut users = services();
    users.extend([MIGRATOR, OPERATOR, SYSTEM, WATCHER, CHECKPOINTS.user]);
    users
}

fn services() -> Vec<&'static str> {
    services::ALL.iter().map(|service| service.name).collect()
}

/// Everything that is tried as each user.
pub fn operations() -> Vec<Operation> {
    let mut all = Vec::new();
    hear_events(&mut all);
    for service in &services::ALL {
        of_service(&mut all, service);
    }
    for user in [MIGRATOR, OPERATOR, SYSTEM, CHECKPOINTS.user] {
        hear(&mut all, &REPLIES, &[user], &format!("_INBOX_{user}.>"));
    }
    streams(&mut all);
    dead_letters(&mut all);
    checkpoints(&mut all);
    directory(&mut all);
    system(&mut all);
    all
}

/// Subscribed both alone and in a group: who may the one may the other.
fn hear(all: &mut Vec<Operation>, rule: &'static Rule, needed_by: &[&'static str], subject: &str) {
    for verb in [Verb::Hear, Verb::Share] {
        all.push(Operation {
            verb,
            subject: subject.to_owned(),
            needed_by: needed_by.to_vec(),
            rule,
        });
    }
}

fn say(all: &mut Vec<Operation>, rule: &'static Rule, needed_by: &[&'static str], subject: &str) {
    all.push(Operation {
        verb: Verb::Say,
        subject: subject.to_owned(),
        needed_by: needed_by.to_vec(),
        rule,
    });
}

fn hear_events(all: &mut Vec<Operation>) {
    let own = [TENANT, OPERATOR];
    hear(all, &EVENTS, &own, &format!("catalyst.{OWN}.>"));
    // The service whose events they are hears of its own changes.
    let own = [TENANT, OPERATOR, "projects"];
    hear(all, &EVENTS, &own, &format!("catalyst.{OWN}.projects.*"));
    hear(
        all,
        &EVENTS,
        &own,
        &format!("catalyst.{OWN}.projects.project_created"),
    );
    let events = [
        "catalyst.>".to_owned(),
        "catalyst.*.>".to_owned(),
        "catalyst.*.*.*".to_owned(),
        format!("catalyst.{OTHER}.>"),
        "security.>".to_owned(),
        "security.*.*".to_owned(),
        "security.none.>".to_owned(),
        format!("security.{OWN}.>"),
        "dead_letter.>".to_owned(),
        "dead_letter.audit.>".to_owned(),
    ];
    for subject in events {
        hear(all, &EVENTS, &[OPERATOR], &subject);
    }
    for tenant in ["*", OTHER] {
        let subject = format!("catalyst.{tenant}.projects.project_created");
        hear(all, &EVENTS, &[OPERATOR, "projects"], &subject);
    }
    let inward = [
        ">",
        "*",
        "*.>",
        "*.*.*.*",
        "ingest.>",
        "ingest_security.>",
        "relay.*",
        "$JS.>",
        "$JS.API.>",
        "$JS.ACK.>",
        "$JS.EVENT.>",
        "$KV.>",
        "$KV.tenants.*",
        "$SYS.>",
        "$SYS.ACCOUNT.>",
        "$SRV.>",
        "_R_.>",
    ];
    for subject in inward {
        hear(all, &EVENTS, &[], subject);
    }
    for subject in ["_INBOX.>", "*.*", "_INBOX.*.*"] {
        hear(all, &REPLIES, &[], subject);
    }
    for subject in ["anything", "catalyst", "_INBOX.someone.1"] {
        say(all, &PUBLISH, &[], subject);
    }
    for tenant in [OWN, OTHER] {
        say(
            all,
            &PUBLISH,
            &[],
            &format!("security.{tenant}.rate_limited"),
        );
        let mut writers = services();
        writers.push(OPERATOR);
        let subject = format!("ingest_security.{tenant}.rate_limited");
        say(all, &PUBLISH, &writers, &subject);
    }
}

/// What is a service's own: its noun, its dead letters, its wake-up, its inbox and its durables.
fn of_service(all: &mut Vec<Operation>, service: &Definition) {
    let Definition { name, schema, .. } = *service;
    hear(all, &REPLIES, &[name], &format!("_INBOX_{name}.>"));
    hear(all, &REPLIES, &[name], &format!("relay.{name}"));
    let changes = format!("catalyst.*.{schema}.*");
    hear(all, &EVENTS, &[name, OPERATOR], &changes);
    hear(all, &EVENTS, &[OPERATOR], &format!("{changes}.>"));
    say(all, &PUBLISH, &[name], &format!("relay.{name}"));
    for tenant in [OWN, OTHER] {
        let event = format!("{tenant}.{schema}.something_happened");
        // An operator replays what was set aside.
        let writers = [name, OPERATOR];
        say(all, &PUBLISH, &writers, &format!("ingest.{event}"));
        say(all, &PUBLISH, &[], &format!("ingest.{event}.more"));
        say(all, &PUBLISH, &[], &format!("catalyst.{event}"));
        let letter = format!("dead_letter.{name}.catalyst.{event}");
        say(all, &PUBLISH, &[name], &letter);
    }
    for subscription in service.subscriptions {
        let durable = format!("{}.{}", subscription.stream.name(), subscription.durable);
        for (verb, readers) in [
            ("CONSUMER.INFO", &[name, MIGRATOR]),
            ("CONSUMER.MSG.NEXT", &[name, MIGRATOR]),
        ] {
            say(all, &DURABLE, readers, &format!("$JS.API.{verb}.{durable}"));
        }
        for verb in [
            "CREATE",
            "DURABLE.CREATE",
            "DELETE",
            "PAUSE",
            "UNPIN",
            "RESET",
        ] {
            let subject = format!("$JS.API.CONSUMER.{verb}.{durable}");
            say(all, &ADMINISTER, &[MIGRATOR], &subject);
        }
        let ack = format!("$JS.ACK.{durable}.1.1.1.1.1");
        say(all, &DURABLE, &[name], &ack);
    }
}

/// Streams are the migrator's to make and to change, and nobody's to read as a whole.
fn streams(all: &mut Vec<Operation>) {
    for whole in ["STREAM.NAMES", "STREAM.LIST", "INFO"] {
        say(all, &READ, &[MIGRATOR], &format!("$JS.API.{whole}"));
    }
    // A stepping down that is not refused takes effect without a body, so a stream is named that is not there.
    for verb in ["STREAM.LEADER.STEPDOWN", "STREAM.PEER.REMOVE"] {
        say(
            all,
            &ADMINISTER,
            &[MIGRATOR],
            &format!("$JS.API.{verb}.NOTHING"),
        );
    }
    for stream in [Stream::Domain.name(), Stream::Security.name(), "NOTHING"] {
        for verb in [
            "STREAM.CREATE",
            "STREAM.UPDATE",
            "STREAM.DELETE",
            "STREAM.PURGE",
            "STREAM.MSG.DELETE",
            "STREAM.SNAPSHOT",
            "STREAM.RESTORE",
            // Without a name, with one, and with a filter.
            "CONSUMER.CREATE",
        ] {
            let subject = format!("$JS.API.{verb}.{stream}");
            say(all, &ADMINISTER, &[MIGRATOR], &subject);
        }
        for name in ["mine", "mine.catalyst.>", "mine.security.>"] {
            let subject = format!("$JS.API.CONSUMER.CREATE.{stream}.{name}");
            say(all, &ADMINISTER, &[MIGRATOR], &subject);
        }
        let subject = format!("$JS.API.CONSUMER.DURABLE.CREATE.{stream}.mine");
        say(all, &ADMINISTER, &[MIGRATOR], &subject);
        for verb in [
            "STREAM.INFO",
            "STREAM.MSG.GET",
            "DIRECT.GET",
            "CONSUMER.NAMES",
            "CONSUMER.LIST",
        ] {
            let subject = format!("$JS.API.{verb}.{stream}");
            say(all, &READ, &[MIGRATOR], &subject);
        }
        let last = format!("$JS.API.DIRECT.GET.{stream}.catalyst.{OTHER}.projects.project_created");
        say(all, &READ, &[MIGRATOR], &last);
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.mine");
        say(all, &DURABLE, &[MIGRATOR], &next);
        let ack = format!("$JS.ACK.{stream}.mine.1.1.1.1.1");
        say(all, &DURABLE, &[], &ack);
    }
}

/// Dead letters are read by operators, removed by nobody but the migrator.
fn dead_letters(all: &mut Vec<Operation>) {
    let readers = [OPERATOR, MIGRATOR];
    for reading in [
        "STREAM.INFO.DEAD_LETTERS",
        "STREAM.MSG.GET.DEAD_LETTERS",
        "DIRECT.GET.DEAD_LETTERS.dead_letter.audit.x",
        "CONSUMER.CREATE.DEAD_LETTERS.mine",
        "CONSUMER.MSG.NEXT.DEAD_LETTERS.mine",
        "CONSUMER.DELETE.DEAD_LETTERS.mine",
    ] {
        say(all, &READ, &readers, &format!("$JS.API.{reading}"));
    }
    let ack = "$JS.ACK.DEAD_LETTERS.mine.1.1.1.1.1";
    say(all, &READ, &[OPERATOR], ack);
    for verb in [
        "CREATE",
        "UPDATE",
        "DELETE",
        "PURGE",
        "MSG.DELETE",
        "SNAPSHOT",
        "RESTORE",
    ] {
        let subject = format!("$JS.API.STREAM.{verb}.DEAD_LETTERS");
        say(all, &ADMINISTER, &[MIGRATOR], &subject);
    }
}

/// Checkpoints are appended by one user, read by operators too, and removed by nobody: the stream refuses it.
fn checkpoints(all: &mut Vec<Operation>) {
    let stream = CHECKPOINTS.stream;
    say(all, &PUBLISH, &[CHECKPOINTS.user], CHECKPOINTS.subject);
    let more = format!("{}.more", CHECKPOINTS.subject);
    say(all, &PUBLISH, &[], &more);
    hear(all, &EVENTS, &[], CHECKPOINTS.subject);
    let readers = [CHECKPOINTS.user, OPERATOR, MIGRATOR];
    say(
        all,
        &READ,
        &readers,
        &format!("$JS.API.STREAM.INFO.{stream}"),
    );
    let by_sequence = format!("$JS.API.STREAM.MSG.GET.{stream}");
    say(all, &READ, &[CHECKPOINTS.user, MIGRATOR], &by_sequence);
    for reading in ["CREATE", "MSG.NEXT", "DELETE"] {
        let subject = format!("$JS.API.CONSUMER.{reading}.{stream}.mine");
        say(all, &READ, &[OPERATOR, MIGRATOR], &subject);
    }
    for verb in [
        "CREATE",
        "UPDATE",
        "DELETE",
        "PURGE",
        "MSG.DELETE",
        "SNAPSHOT",
        "RESTORE",
    ] {
        let subject = format!("$JS.API.STREAM.{verb}.{stream}");
        say(all, &ADMINISTER, &[MIGRATOR], &subject);
    }
}

/// Every service reads and watches the directory; one writes it.
fn directory(all: &mut Vec<Operation>) {
    let mut readers = services();
    readers.push(MIGRATOR);
    let entry = format!("$KV.tenants.{OWN}");
    for reading in [
        "STREAM.INFO.KV_tenants".to_owned(),
        format!("DIRECT.GET.KV_tenants.{entry}"),
        "CONSUMER.CREATE.KV_tenants".to_owned(),
        "CONSUMER.CREATE.KV_tenants.mine.$KV.tenants.>".to_owned(),
        "CONSUMER.DELETE.KV_tenants.mine".to_owned(),
    ] {
        say(all, &DIRECTORY, &readers, &format!("$JS.API.{reading}"));
    }
    say(all, &DIRECTORY, &services(), "$JS.FC.KV_tenants.mine.1");
    say(all, &DIRECTORY, &["tenants"], &entry);
    say(all, &DIRECTORY, &[], "$KV.other.key");
    for verb in [
        "CREATE",
        "UPDATE",
        "DELETE",
        "PURGE",
        "MSG.DELETE",
        "SNAPSHOT",
        "RESTORE",
    ] {
        let subject = format!("$JS.API.STREAM.{verb}.KV_tenants");
        say(all, &ADMINISTER, &[MIGRATOR], &subject);
    }
    let any = "$JS.API.STREAM.MSG.GET.KV_tenants";
    say(all, &READ, &[MIGRATOR], any);
    for verb in ["CREATE", "UPDATE"] {
        let subject = format!("$JS.API.STREAM.{verb}.KV_mine");
        say(all, &ADMINISTER, &[MIGRATOR], &subject);
    }
}

/// Accounts are pushed by one user and refusals heard by another; everything else of the system is nobody's.
fn system(all: &mut Vec<Operation>) {
    let update = "$SYS.REQ.CLAIMS.UPDATE";
    say(all, &SYSTEM_ACCOUNT, &[SYSTEM], update);
    for subject in [
        "$SYS.REQ.CLAIMS.DELETE",
        "$SYS.REQ.CLAIMS.LIST",
        "$SYS.REQ.SERVER.NOBODY.KICK",
        "$SYS.REQ.SERVER.NOBODY.RELOAD",
        "$SYS.REQ.ACCOUNT.NOBODY.CLAIMS.LOOKUP",
        "$SYS.REQ.USER.INFO",
    ] {
        say(all, &SYSTEM_ACCOUNT, &[], subject);
    }
    let refusals = "$SYS.SERVER.*.CLIENT.AUTH.ERR";
    hear(all, &SYSTEM_ACCOUNT, &[WATCHER], refusals);
    for subject in [
        "$SYS.SERVER.>",
        "$SYS.ACCOUNT.*.CONNECT",
        "$SYS.ACCOUNT.*.DISCONNECT",
        "$SYS.REQ.>",
    ] {
        hear(all, &SYSTEM_ACCOUNT, &[], subject);
    }
}
