//! Sums on the wire.

use kit::fields::Fields;
use proto::time_entries::v1 as pb;
use time::Date;
use time::macros::date;

use crate::summary::{Dimension, Grouping, Selection, Sum};

/// No entry counts for a day outside of these.
const EARLIEST: Date = date!(1969 - 12 - 31);
const LATEST: Date = date!(2201 - 01 - 02);

pub(super) fn read_selection(
    request: &pb::SummarizeTimeEntriesRequest,
) -> Result<Selection, kit::Error> {
    let mut fields = Fields::new();
    let project = fields.optional_id("project_id", &request.project_id);
    let consultant = fields.optional_id("consultant_id", &request.consultant_id);
    let from = fields
        .optional_date("from_date", &request.from_date)
        .unwrap_or(EARLIEST);
    let until = fields
        .optional_date("until_date", &request.until_date)
        .unwrap_or(LATEST);
    let dimensions: Option<Vec<Dimension>> = request
        .group_by
        .iter()
        .map(|wire| dimension(*wire))
        .collect();
    let grouping = dimensions.and_then(|dimensions| Grouping::new(&dimensions));
    if grouping.is_none() {
        fields.reject(
            "group_by",
            "must name PROJECT, CONSULTANT and one of DAY, WEEK and MONTH, each at most once",
        );
    }
    let selection = grouping.map(|grouping| Selection {
        project,
        consultant,
        from,
        until,
        grouping,
    });
    fields.finish(selection)
}

fn dimension(wire: i32) -> Option<Dimension> {
    match pb::SummaryDimension::try_from(wire).ok()? {
        pb::SummaryDimension::Unspecified => None,
        pb::SummaryDimension::Project => Some(Dimension::Project),
        pb::SummaryDimension::Consultant => Some(Dimension::Consultant),
        pb::SummaryDimension::Day => Some(Dimension::Day),
        pb::SummaryDimension::Week => Some(Dimension::Week),
        pb::SummaryDimension::Month => Some(Dimension::Month),
    }
}

pub(super) fn row(grouping: Grouping, sum: Sum) -> pb::SummaryRow {
    let mut row = pb::SummaryRow {
        entries: sum.entries,
        worked_minutes: sum.worked_minutes,
        billable_minutes: sum.billable_minutes,
        ..pb::SummaryRow::default()
    };
    for (slot, part) in grouping.slots().into_iter().zip(sum.key) {
        match slot {
            Some(Dimension::Project) => row.project_id = part,
            Some(Dimension::Consultant) => row.consultant_id = part,
            Some(Dimension::Day | Dimension::Week | Dimension::Month) => row.period_start = part,
            None => {}
        }
    }
    row
}
