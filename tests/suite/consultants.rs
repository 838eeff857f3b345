//! Consultants over gRPC: each RPC happy, repeated, unknown and refused. What holds for every service's mutations,
//! lists and errors is shown here once.

use harness::{Firm, eventually};
use kit::ctx::Clock;
use proto::consultants::v1 as pb;
use tonic::{Code, Status};
use tonic_types::StatusExt;

fn kim(code: &str) -> pb::Consultant {
    pb::Consultant {
        code: code.to_owned(),
        display_name: "Kim".to_owned(),
        weekly_capacity_minutes: 2_400,
        ..Default::default()
    }
}

async fn create(
    firm: &Firm,
    consultant: pb::Consultant,
    request_id: &str,
) -> Result<pb::Consultant, Status> {
    let request = pb::CreateConsultantRequest {
        consultant: Some(consultant),
        request_id: request_id.to_owned(),
    };
    let created = firm
        .consultants()
        .create_consultant(request)
        .await?
        .into_inner();
    Ok(created.consultant.expect("the consultant"))
}

fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .map(|info| info.reason)
        .unwrap_or_default()
}

fn new_id() -> String {
    Clock::system().new_uuid().to_string()
}

#[tokio::test]
async fn a_consultant_reads_back_as_it_was_created() {
    let firm = Firm::new("Acme").await;
    let rate = |minor_units| {
        Some(proto::common::v1::Money {
            minor_units,
            currency_code: "EUR".to_owned(),
        })
    };
    let wished = pb::Consultant {
        email: "Kim@Example.com".to_owned(),
        subject: "auth0|kim".to_owned(),
        job_title: "Engineer".to_owned(),
        cost_rate: rate(5_000),
        bill_rate: rate(12_000),
        ..kim("K-1")
    };
    let created = create(&firm, wished.clone(), "").await.expect("created");
    let request = pb::GetConsultantRequest {
        consultant_id: created.id.clone(),
    };
    let read = firm
        .consultants()
        .get_consultant(request)
        .await
        .expect("found")
        .into_inner()
        .consultant
        .expect("it");
    assert_eq!(read, created);
    assert_eq!(
        (&read.email, read.state(), read.etag.as_str()),
        (&wished.email, pb::ConsultantState::Active, "1")
    );
    assert_eq!(
        (read.cost_rate, read.bill_rate),
        (wished.cost_rate, wished.bill_rate)
    );
}

#[tokio::test]
async fn a_repeated_request_id_returns_what_the_first_call_made() {
    let firm = Firm::new("Acme").await;
    let id = new_id();
    let first = create(&firm, kim("K-1"), &id).await.expect("created");
    let again = create(&firm, kim("K-1"), &id).await.expect("repeated");
    assert_eq!(again, first);
}

#[tokio::test]
async fn twenty_concurrent_calls_with_one_request_id_make_one_consultant() {
    let firm = Firm::new("Acme").await;
    let id = new_id();
    let calls = (0..20).map(|_| create(&firm, kim("K-1"), &id));
    let made = futures::future::join_all(calls).await;
    let ids: std::collections::HashSet<_> = made
        .into_iter()
        .map(|made| made.expect("the same answer").id)
        .collect();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn another_request_under_the_same_request_id_is_refused() {
    let firm = Firm::new("Acme").await;
    let id = new_id();
    create(&firm, kim("K-1"), &id).await.expect("created");
    let refused = create(&firm, kim("K-2"), &id).await.expect_err("refused");
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::FailedPrecondition, "REQUEST_ID_REUSED".to_owned())
    );
}

#[tokio::test]
async fn a_request_id_of_more_than_a_day_ago_is_a_new_one() {
    use sqlx::Connection as _;
    let firm = Firm::new("Acme").await;
    let id = new_id();
    let first = create(&firm, kim("K-1"), &id).await.expect("created");
    let mut admin = sqlx::postgres::PgConnection::connect(&harness::world().postgres_admin_url)
        .await
        .expect("connected");
    sqlx::query("update consultants.request set created_at = created_at - interval '25 hours' where tenant_id = $1")
        .bind(firm.id.uuid())
        .execute(&mut admin)
        .await
        .expect("the answer grows old");
    let second = create(&firm, kim("K-2"), &id).await.expect("created anew");
    assert_ne!(first.id, second.id);
    let again = create(&firm, kim("K-2"), &id).await.expect("repeated");
    assert_eq!(again, second);
}

#[tokio::test]
async fn a_request_id_that_another_tenant_used_is_free() {
    let (own, other) = tokio::join!(Firm::new("Own"), Firm::new("Other"));
    let id = new_id();
    let theirs = create(&other, kim("K-1"), &id).await.expect("created");
    let ours = create(&own, kim("K-1"), &id).await.expect("created");
    assert_ne!(theirs.id, ours.id);
}

#[tokio::test]
async fn code_email_and_subject_are_unique_within_the_tenant() {
    let firm = Firm::new("Acme").await;
    let full = |code: &str, email: &str, subject: &str| pb::Consultant {
        email: email.to_owned(),
        subject: subject.to_owned(),
        ..kim(code)
    };
    create(&firm, full("K-1", "kim@example.com", "kim"), "")
        .await
        .expect("created");
    for (twin, expected) in [
        (full("K-1", "", ""), "CODE_TAKEN"),
        (full("K-2", "KIM@example.com", ""), "EMAIL_TAKEN"),
        (full("K-3", "", "kim"), "SUBJECT_TAKEN"),
    ] {
        let refused = create(&firm, twin, "").await.expect_err("refused");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::AlreadyExists, expected)
        );
    }
}

#[tokio::test]
async fn every_bad_field_is_named_in_one_answer() {
    let firm = Firm::new("Acme").await;
    let bad = pb::Consultant {
        code: "two words".to_owned(),
        email: "nobody".to_owned(),
        weekly_capacity_minutes: -1,
        cost_rate: Some(proto::common::v1::Money {
            minor_units: -1,
            currency_code: "EUR".to_owned(),
        }),
        ..Default::default()
    };
    let refused = create(&firm, bad, "").await.expect_err("refused");
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::InvalidArgument, "INVALID_FIELDS".to_owned())
    );
    let named: Vec<String> = refused
        .get_details_bad_request()
        .map(|bad| {
            bad.field_violations
                .into_iter()
                .map(|violation| violation.field)
                .collect()
        })
        .unwrap_or_default();
    let expected = [
        "code",
        "display_name",
        "email",
        "weekly_capacity_minutes",
        "cost_rate.minor_units",
    ];
    assert_eq!(named, expected.map(|field| format!("consultant.{field}")));
}

#[tokio::test]
async fn text_that_looks_like_sql_is_text() {
    let firm = Firm::new("Acme").await;
    let name = "Robert'); drop table consultants.consultant; select set_config('app.current_tenant_id', '', false) --";
    let created = create(
        &firm,
        pb::Consultant {
            display_name: name.to_owned(),
            ..kim("K-1")
        },
        "",
    )
    .await
    .expect("created");
    assert_eq!(created.display_name, name);
}

#[tokio::test]
async fn an_update_changes_the_named_fields_and_the_etag() {
    let firm = Firm::new("Acme").await;
    let created = create(&firm, kim("K-1"), "").await.expect("created");
    let request = pb::UpdateConsultantRequest {
        consultant: Some(pb::Consultant {
            job_title: "Lead".to_owned(),
            display_name: String::new(),
            ..created.clone()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["job_title".to_owned()],
        }),
        request_id: String::new(),
    };
    let updated = firm
        .consultants()
        .update_consultant(request.clone())
        .await
        .expect("updated")
        .into_inner();
    let updated = updated.consultant.expect("the consultant");
    assert_eq!(
        (
            updated.job_title.as_str(),
            updated.display_name.as_str(),
            updated.etag.as_str()
        ),
        ("Lead", "Kim", "2")
    );
    // The same request again names an etag that is no longer current.
    let stale = firm
        .consultants()
        .update_consultant(request)
        .await
        .expect_err("stale");
    assert_eq!(
        (stale.code(), reason(&stale)),
        (Code::Aborted, "ETAG_STALE".to_owned())
    );
}

#[tokio::test]
async fn an_update_of_an_unknown_field_is_refused() {
    let firm = Firm::new("Acme").await;
    let created = create(&firm, kim("K-1"), "").await.expect("created");
    let request = pb::UpdateConsultantRequest {
        consultant: Some(created),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["tenant_id".to_owned()],
        }),
        request_id: String::new(),
    };
    let refused = firm
        .consultants()
        .update_consultant(request)
        .await
        .expect_err("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_deactivated_consultant_stays_so_and_says_it_once() {
    let firm = Firm::new("Acme").await;
    let created = create(&firm, kim("K-1"), "").await.expect("created");
    let request = pb::DeactivateConsultantRequest {
        consultant_id: created.id.clone(),
        ..Default::default()
    };
    for _ in 0..2 {
        let answer = firm
            .consultants()
            .deactivate_consultant(request.clone())
            .await
            .expect("deactivated")
            .into_inner();
        let consultant = answer.consultant.expect("the consultant");
        assert_eq!(
            (consultant.state(), consultant.etag.as_str()),
            (pb::ConsultantState::Inactive, "2")
        );
    }
}

#[tokio::test]
async fn pages_hold_every_consultant_once_in_the_order_of_creation() {
    let firm = Firm::new("Acme").await;
    let mut created = Vec::new();
    for i in 0..25 {
        created.push(
            create(&firm, kim(&format!("K-{i}")), "")
                .await
                .expect("created")
                .id,
        );
    }
    let (mut listed, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListConsultantsRequest {
            page_size: 10,
            page_token: token,
            ..Default::default()
        };
        let page = firm
            .consultants()
            .list_consultants(request)
            .await
            .expect("a page")
            .into_inner();
        listed.extend(page.consultants.into_iter().map(|consultant| consultant.id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, created);
}

#[tokio::test]
async fn a_page_token_of_another_tenant_is_refused_and_on_record() {
    let (own, other) = tokio::join!(Firm::new("Own"), Firm::new("Other"));
    for i in 0..3 {
        create(&other, kim(&format!("K-{i}")), "")
            .await
            .expect("created");
    }
    let request = pb::ListConsultantsRequest {
        page_size: 1,
        ..Default::default()
    };
    let token = other
        .consultants()
        .list_consultants(request.clone())
        .await
        .expect("a page")
        .into_inner()
        .next_page_token;
    let request = pb::ListConsultantsRequest {
        page_token: token,
        ..request
    };
    let refused = own
        .consultants()
        .list_consultants(request)
        .await
        .expect_err("refused");
    assert_eq!(
        (refused.code(), reason(&refused)),
        (Code::InvalidArgument, "PAGE_TOKEN_INVALID".to_owned())
    );
    eventually("the record of the forged token", async || {
        let filter = proto::audit::v1::RecordFilter {
            r#type: "catalyst.common.v1.PageTokenTampered".to_owned(),
            ..Default::default()
        };
        let request = proto::audit::v1::ListRecordsRequest {
            filter: Some(filter),
            ..Default::default()
        };
        let records = own
            .audit()
            .list_records(request)
            .await
            .ok()?
            .into_inner()
            .records;
        records.into_iter().next()
    })
    .await;
}

#[tokio::test]
async fn a_deadline_that_passes_is_told_as_such() {
    let firm = Firm::new("Acme").await;
    // Not by the generated client, which would time the call out by itself before the server answers.
    let http = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .build()
        .expect("a client");
    let url = format!(
        "{}/catalyst.consultants.v1.ConsultantService/ListConsultants",
        harness::world().url
    );
    let answer = http
        .post(url)
        .headers(firm.metadata().clone().into_headers())
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "1n")
        .body(vec![0_u8; 5])
        .send()
        .await
        .expect("an answer");
    let status = answer
        .headers()
        .get("grpc-status")
        .and_then(|status| status.to_str().ok());
    assert_eq!(status, Some("4"), "{:?}", answer.headers());
}

#[tokio::test]
async fn a_fault_is_told_by_a_fixed_sentence() {
    use sqlx::Connection as _;
    let firm = Firm::new("Acme").await;
    let id = new_id();
    create(&firm, kim("K-1"), &id).await.expect("created");
    let mut admin = sqlx::postgres::PgConnection::connect(&harness::world().postgres_admin_url)
        .await
        .expect("connected");
    sqlx::query(
        "update consultants.request set answer = to_jsonb('canary'::text) where tenant_id = $1",
    )
    .bind(firm.id.uuid())
    .execute(&mut admin)
    .await
    .expect("the answer is damaged");
    let refused = create(&firm, kim("K-1"), &id).await.expect_err("a fault");
    assert_eq!(
        (refused.code(), refused.message(), reason(&refused).as_str()),
        (Code::Internal, "internal error", "INTERNAL")
    );
    let details = String::from_utf8_lossy(refused.details()).into_owned();
    assert!(!details.contains("canary"), "{details}");
}
