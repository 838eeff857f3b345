//! What the audit trail says of callers that were never verified.

use std::collections::BTreeMap;
use std::net::IpAddr;

use prost::Message as _;
use proto::audit::v1 as audit;
use proto::common::v1::{AuthenticationFailed, AuthenticationFailure};

use crate::Caller;

/// How many calls from `source` the operator's records count as refused, by the reason.
pub async fn refusals_of(source: IpAddr) -> BTreeMap<AuthenticationFailure, i64> {
    let mut counts = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = audit::ListTenantRecordsRequest {
            tenant_id: "none".to_owned(),
            page_size: 500,
            page_token,
            filter: Some(audit::RecordFilter {
                r#type: "catalyst.common.v1.AuthenticationFailed".to_owned(),
                ..Default::default()
            }),
        };
        let page = Caller::operator()
            .audit_operator()
            .list_tenant_records(request)
            .await
            .expect("the operator reads the records")
            .into_inner();
        for record in page.records.into_iter().filter_map(|row| row.record) {
            let event = AuthenticationFailed::decode(record.payload.as_slice())
                .expect("the record keeps its event");
            if event.source_address == source.to_string() {
                *counts.entry(event.failure()).or_default() += event.count;
            }
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return counts;
        }
    }
}
