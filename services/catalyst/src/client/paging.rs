//! Lists, page by page, up to what was asked for.

use super::error::Refused;
use super::output::note;
use super::retry::{Backoff, told};

/// No limit.
pub(crate) const ALL: usize = usize::MAX;
/// The greatest page that services give.
const PAGE: usize = 500;

/// How much of a list is shown.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Limit {
    /// Show at most this many; 0 shows all.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    /// Show all.
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

impl Limit {
    /// As a number of items.
    pub(super) fn count(self) -> usize {
        if self.all || self.limit == 0 {
            ALL
        } else {
            self.limit
        }
    }
}

/// A list, or its beginning.
pub(crate) struct Listed<T> {
    /// In the order of the service.
    pub(crate) items: Vec<T>,
    is_cut: bool,
}

impl<T> Listed<T> {
    /// Tells people when there is more than is shown.
    pub(super) fn told(self) -> Vec<T> {
        if self.is_cut {
            note("there is more: raise --limit, or give 0 for all");
        }
        self.items
    }
}

/// Reads pages until there are `limit` items; `fetch` takes a page size and a page token, and gives a page and the
/// token of the next one. A page that is refused until later is asked for again then: great pages count as several calls.
pub(crate) async fn pages<T>(
    limit: usize,
    mut fetch: impl AsyncFnMut(i32, String) -> Result<(Vec<T>, String), Refused>,
) -> Result<Listed<T>, Refused> {
    let mut items = Vec::new();
    let mut token = String::new();
    let mut backoff = Backoff::new();
    loop {
        let wanted = (limit - items.len()).min(PAGE);
        let fetched = fetch(i32::try_from(wanted).unwrap_or(i32::MAX), token.clone()).await;
        let (page, next) = match fetched {
            Ok(page) => page,
            Err(refused) => match told(refused.status()) {
                Some(later) if backoff.wait_for(later).await => continue,
                _ => return Err(refused),
            },
        };
        backoff.succeeded();
        items.extend(page);
        let is_cut = items.len() > limit || (items.len() == limit && !next.is_empty());
        items.truncate(limit);
        if next.is_empty() || is_cut {
            return Ok(Listed { items, is_cut });
        }
        token = next;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::{Code, Status};
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    /// Lists the numbers below `total` from a service whose pages hold at most `page`.
    async fn list(total: usize, page: usize, limit: usize) -> Listed<usize> {
        pages(limit, async |size, token| {
            let from: usize = token.parse().unwrap_or(0);
            let until = (from + page.min(usize::try_from(size).unwrap())).min(total);
            let next = if until < total {
                until.to_string()
            } else {
                String::new()
            };
            Ok(((from..until).collect(), next))
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn pages_are_read_up_to_the_limit_and_no_further() {
        for (total, page, limit, shown, is_cut) in [
            (0, 500, ALL, 0, false),
            (1_203, 500, ALL, 1_203, false),
            (1_203, 500, 100, 100, true),
            (1_203, 7, 100, 100, true),
            (100, 500, 100, 100, false),
            (99, 10, 100, 99, false),
        ] {
            let listed = list(total, page, limit).await;
            assert_eq!(
                listed.items,
                (0..shown).collect::<Vec<_>>(),
                "{total} by {page}"
            );
            assert_eq!(listed.is_cut, is_cut, "{total} by {page} up to {limit}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_is_refused_until_later_is_asked_for_again_and_none_is_lost() {
        let later = Duration::from_millis(700);
        let (mut asked, mut refusals) = (Vec::new(), 0);
        let begun = tokio::time::Instant::now();
        let listed = pages(ALL, async |_, token| {
            asked.push(token.clone());
            if token == "2" && refusals < 2 {
                refusals += 1;
                let details = ErrorDetails::with_retry_info(Some(later));
                let code = Code::ResourceExhausted;
                return Err(Status::with_error_details(code, "too often", details).into());
            }
            let next = match &*token {
                "" => "2",
                "2" => "3",
                _ => "",
            };
            Ok((vec![token], next.to_owned()))
        });
        assert_eq!(listed.await.unwrap().items, ["", "2", "3"]);
        assert_eq!(asked, ["", "2", "2", "2", "3"]);
        assert!(begun.elapsed() >= 2 * later);
    }

    #[tokio::test]
    async fn a_page_that_fails_otherwise_is_not_asked_for_again() {
        let mut asked = 0;
        let listed = pages::<()>(ALL, async |_, _| {
            asked += 1;
            Err(Status::unavailable("nobody answers").into())
        });
        assert!(listed.await.is_err());
        assert_eq!(asked, 1);
    }
}
