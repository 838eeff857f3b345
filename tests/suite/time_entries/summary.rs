//! Sums of entries.

use proto::time_entries::v1 as pb;
use proto::time_entries::v1::SummaryDimension::{Consultant, Day, Month, Project, Week};
use tonic::Code;

use super::{Scene, assert_refused, create, invalid_fields, later, sums};

fn by(dimensions: &[pb::SummaryDimension]) -> pb::SummarizeTimeEntriesRequest {
    let group_by = dimensions
        .iter()
        .map(|dimension| i32::from(*dimension))
        .collect();
    pb::SummarizeTimeEntriesRequest {
        group_by,
        ..Default::default()
    }
}

/// Period, entries, worked and billed minutes.
fn told(rows: &[pb::SummaryRow]) -> Vec<(&str, i64, i64, i64)> {
    rows.iter()
        .map(|row| {
            (
                row.period_start.as_str(),
                row.entries,
                row.worked_minutes,
                row.billable_minutes,
            )
        })
        .collect()
}

/// Hours on Monday 2 March 2026, on the Sunday before it and the Sunday after, and on 1 April; the last is not billed.
async fn spring(scene: &Scene) {
    for day in [0, -1, 6] {
        scene.records(day * 24 + 9).await;
    }
    let unbilled = pb::TimeEntry {
        billable: Some(false),
        break_minutes: 30,
        ..scene.hour(30 * 24 + 9)
    };
    create(&scene.firm, unbilled).await.expect("recorded");
}

#[tokio::test]
async fn without_groups_there_is_one_row_for_all_and_none_for_nothing() {
    let scene = Scene::new().await;
    assert_eq!(sums(&scene.firm, by(&[])).await, vec![]);
    spring(&scene).await;
    assert_eq!(told(&sums(&scene.firm, by(&[])).await), [("", 4, 210, 180)]);
}

#[tokio::test]
async fn days_weeks_from_monday_and_months_are_added_up() {
    let scene = Scene::new().await;
    spring(&scene).await;
    let days = sums(&scene.firm, by(&[Day])).await;
    let expected = [
        ("2026-03-01", 1, 60, 60),
        ("2026-03-02", 1, 60, 60),
        ("2026-03-08", 1, 60, 60),
        ("2026-04-01", 1, 30, 0),
    ];
    assert_eq!(told(&days), expected);
    let weeks = sums(&scene.firm, by(&[Week])).await;
    assert_eq!(
        told(&weeks),
        [
            ("2026-02-23", 1, 60, 60),
            ("2026-03-02", 2, 120, 120),
            ("2026-03-30", 1, 30, 0)
        ]
    );
    let months = sums(&scene.firm, by(&[Month])).await;
    assert_eq!(
        told(&months),
        [("2026-03-01", 3, 180, 180), ("2026-04-01", 1, 30, 0)]
    );
}

#[tokio::test]
async fn rows_come_in_the_order_of_the_groups_and_in_pages() {
    let scene = Scene::new().await;
    spring(&scene).await;
    let lee = scene.firm.hires("Lee").await.id;
    let gemini = scene.firm.creates_project("Gemini").await.id;
    let other = pb::TimeEntry {
        consultant_id: lee,
        project_id: gemini,
        ..scene.hour(9)
    };
    create(&scene.firm, other).await.expect("recorded");

    let request = by(&[Month, Project, Consultant]);
    let whole = sums(&scene.firm, request.clone()).await;
    let key = |row: &pb::SummaryRow| {
        (
            row.period_start.clone(),
            row.project_id.clone(),
            row.consultant_id.clone(),
        )
    };
    assert_eq!(whole.len(), 3);
    assert!(whole.is_sorted_by_key(key), "{whole:?}");

    let mut request = pb::SummarizeTimeEntriesRequest {
        page_size: 1,
        ..request
    };
    let mut paged = Vec::new();
    loop {
        let page = scene
            .firm
            .time_entries()
            .summarize_time_entries(request.clone())
            .await
            .expect("a page")
            .into_inner();
        paged.extend(page.rows);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(paged, whole);
}

#[tokio::test]
async fn each_filter_leaves_out_what_it_does_not_name() {
    let scene = Scene::new().await;
    spring(&scene).await;
    let lee = scene.firm.hires("Lee").await.id;
    let beside = pb::TimeEntry {
        consultant_id: lee.clone(),
        ..scene.hour(9)
    };
    create(&scene.firm, beside).await.expect("recorded");
    let (project_id, consultant_id) = (scene.project.clone(), scene.consultant.clone());
    let of = |project_id: &str, consultant_id: &str| pb::SummarizeTimeEntriesRequest {
        project_id: project_id.to_owned(),
        consultant_id: consultant_id.to_owned(),
        ..by(&[])
    };
    for (request, entries) in [
        (of("", ""), 5),
        (of(&project_id, ""), 5),
        (of("", &consultant_id), 4),
        (of(&project_id, &lee), 1),
    ] {
        let rows = sums(&scene.firm, request).await;
        assert_eq!(
            rows.iter().map(|row| row.entries).collect::<Vec<_>>(),
            [entries]
        );
    }
}

#[tokio::test]
async fn the_range_is_one_of_days_as_they_were_where_the_work_was_done() {
    let scene = Scene::new().await;
    // Both begin on 1 March in UTC; in Kiritimati, 14 hours ahead, it is the second.
    let here = pb::TimeEntry {
        time_zone: "UTC".to_owned(),
        ..scene.hour(-12)
    };
    create(&scene.firm, here).await.expect("recorded");
    let there = pb::TimeEntry {
        time_zone: "Pacific/Kiritimati".to_owned(),
        ..scene.hour(-11)
    };
    let there = pb::TimeEntry {
        ended_at: later(there.started_at, 20),
        ..there
    };
    create(&scene.firm, there).await.expect("recorded");
    let of_day = |from: &str, until: &str| pb::SummarizeTimeEntriesRequest {
        from_date: from.to_owned(),
        until_date: until.to_owned(),
        ..by(&[Day])
    };
    let first = sums(&scene.firm, of_day("2026-03-01", "2026-03-02")).await;
    assert_eq!(told(&first), [("2026-03-01", 1, 60, 60)]);
    let second = sums(&scene.firm, of_day("2026-03-02", "2026-03-03")).await;
    assert_eq!(told(&second), [("2026-03-02", 1, 20, 20)]);
}

#[tokio::test]
async fn groups_that_cannot_stand_together_are_refused() {
    let scene = Scene::new().await;
    for bad in [
        &[Day, Month][..],
        &[Project, Project],
        &[pb::SummaryDimension::Unspecified],
    ] {
        let refused = scene
            .firm
            .time_entries()
            .summarize_time_entries(by(bad))
            .await;
        assert_eq!(invalid_fields(refused), ["group_by"], "{bad:?}");
    }
    let unknown = pb::SummarizeTimeEntriesRequest {
        group_by: vec![99],
        ..Default::default()
    };
    assert_eq!(
        invalid_fields(
            scene
                .firm
                .time_entries()
                .summarize_time_entries(unknown)
                .await
        ),
        ["group_by"]
    );
}

#[tokio::test]
async fn a_page_token_serves_only_the_groups_it_was_made_for() {
    let scene = Scene::new().await;
    spring(&scene).await;
    let request = pb::SummarizeTimeEntriesRequest {
        page_size: 1,
        ..by(&[Day])
    };
    let page = scene
        .firm
        .time_entries()
        .summarize_time_entries(request)
        .await
        .expect("a page")
        .into_inner();
    let other = pb::SummarizeTimeEntriesRequest {
        page_token: page.next_page_token,
        ..by(&[Week])
    };
    let refused = scene
        .firm
        .time_entries()
        .summarize_time_entries(other)
        .await;
    assert_refused(refused, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
}
