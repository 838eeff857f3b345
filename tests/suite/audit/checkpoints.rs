//! Checkpoints are kept where who writes the logs cannot change them.

use uuid::Uuid;

use super::verify::{broker, checkpoints};

/// Whether the broker refuses a user to publish to a subject.
async fn is_refused(user: &str, subject: &str) -> bool {
    let client = broker(user).await;
    let answer = client.request(subject.to_owned(), "".into()).await;
    match answer {
        // What may not be published has no answer; what no one hears has one that says so.
        Err(error) => error.kind() == async_nats::RequestErrorKind::TimedOut,
        Ok(_) => false,
    }
}

#[tokio::test]
async fn who_writes_the_logs_may_neither_publish_nor_remove_a_checkpoint() {
    let changing = [
        "audit_checkpoint",
        "$JS.API.STREAM.DELETE.AUDIT_CHECKPOINTS",
        "$JS.API.STREAM.PURGE.AUDIT_CHECKPOINTS",
        "$JS.API.STREAM.UPDATE.AUDIT_CHECKPOINTS",
        "$JS.API.STREAM.MSG.DELETE.AUDIT_CHECKPOINTS",
    ];
    let others = ["audit", "operator", "projects"];
    let mut refused: Vec<(&str, String)> = others
        .into_iter()
        .flat_map(|user| changing.map(|subject| (user, subject.to_owned())))
        .collect();
    // Who signs may append and read, and nothing else.
    let signer = "audit-checkpoint";
    refused.extend(changing.iter().skip(1).map(|it| (signer, (*it).to_owned())));
    let tenant = Uuid::nil();
    refused.extend(
        [
            format!("ingest.{tenant}.audit.alert_raised"),
            format!("ingest_security.{tenant}.permission_denied"),
            "$JS.API.STREAM.INFO.CATALYST".to_owned(),
        ]
        .map(|subject| (signer, subject)),
    );
    let answers = refused.iter().map(async |(user, subject)| {
        let refused = is_refused(user, subject).await;
        assert!(refused, "{user} may publish to {subject}");
    });
    futures::future::join_all(answers).await;
    assert!(
        !is_refused(signer, "$JS.API.STREAM.INFO.AUDIT_CHECKPOINTS").await,
        "what is allowed is answered"
    );
}

#[tokio::test]
async fn not_even_the_migrator_deletes_or_purges_checkpoints_or_takes_the_ban_back() {
    let jetstream = async_nats::jetstream::new(broker("migrator").await);
    let stream = jetstream
        .get_stream("AUDIT_CHECKPOINTS")
        .await
        .expect("the stream");
    let before = checkpoints().await.last;
    assert!(stream.delete_message(1).await.is_err());
    assert!(stream.purge().await.is_err());
    let mut config = stream.cached_info().config.clone();
    config.deny_delete = false;
    config.deny_purge = false;
    assert!(jetstream.update_stream(config).await.is_err());
    let after = checkpoints().await;
    assert!(after.last >= before && i64::try_from(after.signed.len()) == Ok(after.last));
}
