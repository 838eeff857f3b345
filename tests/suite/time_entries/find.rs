//! Lists of entries.

use prost::Message as _;
use proto::time_entries::v1 as pb;
use tonic::Code;

use super::import::{chunk, row, send};
use super::{Scene, assert_missing, assert_refused, create, get, invalid_fields, list, new_id};

#[tokio::test]
async fn an_unknown_entry_is_not_found() {
    let scene = Scene::new().await;
    assert_missing(get(&scene.firm, &new_id()).await, "time_entry");
    assert_eq!(
        invalid_fields(get(&scene.firm, "nine").await),
        ["time_entry_id"]
    );
}

#[tokio::test]
async fn entries_are_listed_by_when_the_work_began_and_by_each_filter() {
    let scene = Scene::new().await;
    let (lee, gemini) = (
        scene.firm.hires("Lee").await.id,
        scene.firm.creates_project("Gemini").await.id,
    );
    // Recorded in another order than worked.
    let third = scene.records(11).await;
    let first = scene.records(9).await;
    let second = pb::TimeEntry {
        consultant_id: lee.clone(),
        ..scene.hour(10)
    };
    let second = create(&scene.firm, second).await.expect("recorded");
    let fourth = pb::TimeEntry {
        project_id: gemini.clone(),
        ..scene.hour(12)
    };
    let fourth = create(&scene.firm, fourth).await.expect("recorded");

    let all = pb::ListTimeEntriesRequest::default();
    let of_project = |id: &str| pb::ListTimeEntriesRequest {
        project_id: id.to_owned(),
        ..Default::default()
    };
    let of_consultant = |id: &str| pb::ListTimeEntriesRequest {
        consultant_id: id.to_owned(),
        ..Default::default()
    };
    let kim_on = |id: &str| pb::ListTimeEntriesRequest {
        project_id: id.to_owned(),
        ..of_consultant(&scene.consultant)
    };
    let from_ten_until_twelve = pb::ListTimeEntriesRequest {
        from_time: second.started_at,
        until_time: fourth.started_at,
        ..Default::default()
    };
    for (request, expected) in [
        (all, vec![&first, &second, &third, &fourth]),
        (of_project(&scene.project), vec![&first, &second, &third]),
        (
            of_consultant(&scene.consultant),
            vec![&first, &third, &fourth],
        ),
        (kim_on(&gemini), vec![&fourth]),
        (kim_on(&scene.project), vec![&first, &third]),
        (from_ten_until_twelve, vec![&second, &third]),
        (of_project(&new_id()), vec![]),
        (of_consultant(&new_id()), vec![]),
    ] {
        let ids: Vec<String> = expected.into_iter().map(|entry| entry.id.clone()).collect();
        assert_eq!(list(&scene.firm, request.clone()).await, ids, "{request:?}");
    }
}

#[tokio::test]
async fn pages_hold_every_entry_once_those_that_began_together_included() {
    let scene = Scene::new().await;
    // Entries without duration may share their instant.
    for i in 0..25 {
        let at = scene.hour(i / 5).started_at;
        let moment = pb::TimeEntry {
            started_at: at,
            ended_at: at,
            ..scene.hour(9)
        };
        create(&scene.firm, moment).await.expect("recorded");
    }
    let whole = list(
        &scene.firm,
        pb::ListTimeEntriesRequest {
            page_size: 100,
            ..Default::default()
        },
    )
    .await;
    assert_eq!(whole.len(), 25);
    let mut request = pb::ListTimeEntriesRequest {
        page_size: 7,
        ..Default::default()
    };
    let mut paged = Vec::new();
    loop {
        let page = scene
            .firm
            .time_entries()
            .list_time_entries(request.clone())
            .await
            .expect("a page")
            .into_inner();
        paged.extend(page.time_entries.into_iter().map(|entry| entry.id));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, whole);
}

#[tokio::test]
async fn a_page_of_long_notes_stays_below_a_mebibyte_and_none_is_lost() {
    let scene = Scene::new().await;
    let rows: Vec<pb::ImportRow> = (0..200)
        .map(|number| pb::ImportRow {
            note: "語".repeat(4_000),
            ..row(&scene, number, &format!("long-{number}"))
        })
        .collect();
    for rows in rows.chunks(50) {
        let answers = send(&scene.firm, vec![chunk(rows.to_vec())]).await;
        answers.expect("imported");
    }
    let mut request = pb::ListTimeEntriesRequest {
        page_size: 10_000,
        ..Default::default()
    };
    let (mut pages, mut ids) = (0, std::collections::BTreeSet::new());
    loop {
        let mut client = scene.firm.time_entries();
        let page = client.list_time_entries(request.clone()).await;
        let page = page.expect("a page").into_inner();
        assert!(page.encoded_len() < 1_024 * 1_024, "{}", page.encoded_len());
        pages += 1;
        ids.extend(page.time_entries.into_iter().map(|entry| entry.id));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(ids.len(), 200);
    assert!(pages >= 3, "{pages} pages of 2.4 MB");
}

#[tokio::test]
async fn a_page_token_serves_only_the_filters_it_was_made_for() {
    let scene = Scene::new().await;
    for hour in 9..11 {
        scene.records(hour).await;
    }
    let request = pb::ListTimeEntriesRequest {
        page_size: 1,
        ..Default::default()
    };
    let page = scene
        .firm
        .time_entries()
        .list_time_entries(request.clone())
        .await
        .expect("a page")
        .into_inner();
    let other = pb::ListTimeEntriesRequest {
        page_token: page.next_page_token,
        consultant_id: scene.consultant.clone(),
        ..request
    };
    let refused = scene.firm.time_entries().list_time_entries(other).await;
    assert_refused(refused, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
}
