//! The bucket of tenants lost, and the broker's refusals heard.

use std::time::Duration;

use async_nats::jetstream;
use catalyst::stack::identity::{issue_tenant_credentials, revoke_tenant_user, tenant_users};
use harness::{Caller, Firm, eventually, within, world};
use kit::TenantId;
use proto::audit::v1 as audit;
use proto::common::v1::{AuthenticationFailed, AuthenticationFailure, Severity};

#[tokio::test]
async fn an_entry_of_the_directory_that_was_lost_is_written_again_from_the_rows() {
    let firm = Firm::new("Forgotten").await;
    let path = world().credentials_dir.join("migrator.creds");
    let options = async_nats::ConnectOptions::with_credentials_file(path).await;
    let options = options
        .expect("credentials")
        .custom_inbox_prefix("_INBOX_migrator");
    let client = options
        .connect(&world().nats_url)
        .await
        .expect("it connects");
    let jetstream = jetstream::new(client);
    let bucket = jetstream
        .get_key_value("tenants")
        .await
        .expect("the bucket");
    let key = firm.id.to_string();
    let before = eventually("the entry", async || bucket.entry(&key).await.ok()?).await;
    let stream = jetstream
        .get_stream("KV_tenants")
        .await
        .expect("its stream");
    let lost = stream.purge().filter(format!("$KV.tenants.{key}")).await;
    assert_eq!(lost.expect("purged").purged, 1);
    let again = within(Duration::from_secs(40), async || {
        bucket.entry(&key).await.ok()?
    })
    .await;
    let again = again.expect("the entry is not there again");
    assert_eq!(again.value, before.value);
    assert!(again.revision > before.revision);
}

#[tokio::test]
async fn a_connection_that_the_broker_refuses_is_on_record() {
    let firm = Firm::new("Revoked").await;
    let dir = &world().identity_dir;
    let text = issue_tenant_credentials(dir, firm.id.uuid(), "leaked").expect("issued");
    let users = tenant_users(dir).expect("listed").into_iter();
    let of_firm = users.filter(|user| user.tenant == firm.id.uuid());
    for user in of_firm {
        let revoked = revoke_tenant_user(dir, &world().nats_url, &user.public_key).await;
        revoked.expect("revoked");
    }
    let options = async_nats::ConnectOptions::with_credentials(&text).expect("credentials");
    assert!(options.connect(&world().nats_url).await.is_err());

    let event = eventually("the refusal", async || {
        let request = audit::ListTenantRecordsRequest {
            tenant_id: TenantId::NONE.to_string(),
            page_size: 500,
            filter: Some(audit::RecordFilter {
                r#type: "catalyst.common.v1.AuthenticationFailed".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let listed = Caller::operator()
            .audit_operator()
            .list_tenant_records(request)
            .await;
        let records = listed.expect("the operator lists").into_inner().records;
        let payloads = records.into_iter().filter_map(|record| record.record);
        payloads
            .filter_map(|record| prost::Message::decode(record.payload.as_slice()).ok())
            .find(|failed: &AuthenticationFailed| failed.failure() == AuthenticationFailure::Broker)
    })
    .await;
    assert_eq!(event.severity(), Severity::Medium);
    assert_eq!(event.source_address, "127.0.0.1");
    assert!(event.count >= 1);
}
