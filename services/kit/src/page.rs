//! Page tokens: where the next page begins, authenticated and bound to tenant, principal, method and filter.

use std::sync::Arc;

use aws_lc_rs::{constant_time, hmac};
use data_encoding::BASE64URL_NOPAD;
use prost::Message;
use secrecy::ExposeSecret;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::ctx::Ctx;
use crate::ids::TenantId;
use crate::settings::{IdentitySettings, SettingsError, read_secret};

/// Items in a page when the caller does not say.
const DEFAULT_SIZE: i32 = 50;
/// The most items in a page; larger wishes get this many.
const MAX_SIZE: i32 = 500;
/// The most bytes of the items in a page: long texts make it shorter. Clients take 4 MiB unless they are told otherwise.
const MAX_BYTES: usize = 1_024 * 1_024 - 4_096;
/// What an item is beside its own bytes: its number and its length.
const FRAME: usize = 6;
/// A longer token is none of ours.
const MAX_TOKEN: usize = 1_024;
const MAC: usize = 32;
/// A tenant's id and the beginning of a MAC that binds it to the token.
const ORIGIN: usize = 16 + 16;

/// Makes and reads page tokens.
#[derive(Clone)]
pub struct Pages {
    key: Arc<hmac::Key>,
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pages").finish_non_exhaustive()
    }
}

/// One page asked for: how many items, and after which position.
#[derive(Clone, Debug)]
pub struct Page<P> {
    /// Items in this page, 1 to 500.
    pub size: i64,
    /// The position after which it begins; none for the first.
    pub after: Option<P>,
}

impl<P> Page<P> {
    /// Rows to read: one more than the page, to know whether another follows.
    pub fn limit(&self) -> i64 {
        self.size + 1
    }
}

impl Pages {
    pub(crate) fn open(settings: &IdentitySettings) -> Result<Self, SettingsError> {
        let variable = "CATALYST_PAGE_TOKEN_KEY_FILE";
        let secret = read_secret(variable, &settings.page_token_key_file)?;
        if secret.expose_secret().len() < 32 {
            return Err(SettingsError::new(
                variable,
                "holds less than 32 bytes: put at least 32 random ones into it",
            ));
        }
        Ok(Self {
            key: Arc::new(hmac::Key::new(
                hmac::HMAC_SHA256,
                secret.expose_secret().as_bytes(),
            )),
        })
    }

    /// Reads the paging fields of a request. `filter` is everything else in it that selects rows:
    /// a token is good for the same filter, method, tenant and principal only.
    pub fn read<P: DeserializeOwned>(
        &self,
        ctx: &Ctx,
        page_size: i32,
        page_token: &str,
        filter: &impl Serialize,
    ) -> Result<Page<P>, Error> {
        if page_size < 0 {
            return Err(Error::invalid("page_size", "must not be negative"));
        }
        let size = if page_size == 0 {
            DEFAULT_SIZE
        } else {
            page_size.min(MAX_SIZE)
        };
        let after = if page_token.is_empty() {
            None
        } else {
            Some(self.position(ctx, page_token, filter)?)
        };
        Ok(Page {
            size: i64::from(size),
            after,
        })
    }

    /// The items of a page from the rows that were read for it, and the token of the next page, empty after the last.
    /// A page is full with as many items as were asked for, or with less than a MiB of them, and holds one at least.
    pub fn finish<T, M: Message, P: Serialize>(
        &self,
        ctx: &Ctx,
        page: &Page<P>,
        rows: Vec<T>,
        filter: &impl Serialize,
        position: impl Fn(&T) -> P,
        item: impl Fn(T) -> M,
    ) -> Result<(Vec<M>, String), Error> {
        let size = usize::try_from(page.size).unwrap_or(usize::MAX);
        let mut items = Vec::with_capacity(rows.len().min(size));
        let (mut bytes, mut last) = (0, None);
        for row in rows {
            let at = position(&row);
            let item = item(row);
            bytes += item.encoded_len() + FRAME;
            let is_full = items.len() == size || (bytes > MAX_BYTES && !items.is_empty());
            if is_full {
                let token = last.map(|last| self.token(ctx, &last, filter));
                return Ok((items, token.transpose()?.unwrap_or_default()));
            }
            items.push(item);
            last = Some(at);
        }
        Ok((items, String::new()))
    }

    /// The token of the page after a position.
    fn token<P: Serialize>(
        &self,
        ctx: &Ctx,
        last: &P,
        filter: &impl Serialize,
    ) -> Result<String, Error> {
        let body = serde_json::to_vec(last).map_err(Error::internal)?;
        let mac = self.mac(ctx, &body, filter)?;
        let mut token = mac.as_ref().to_vec();
        token.extend_from_slice(&self.origin(ctx.tenant(), mac.as_ref()));
        token.extend_from_slice(&body);
        Ok(BASE64URL_NOPAD.encode(&token))
    }

    fn position<P: DeserializeOwned>(
        &self,
        ctx: &Ctx,
        token: &str,
        filter: &impl Serialize,
    ) -> Result<P, Error> {
        if token.len() > MAX_TOKEN {
            return Err(Error::PageTokenInvalid);
        }
        let bytes = BASE64URL_NOPAD
            .decode(token.as_bytes())
            .map_err(|_| Error::PageTokenInvalid)?;
        let (mac, rest) = bytes.split_at_checked(MAC).ok_or(Error::PageTokenInvalid)?;
        let (origin, body) = rest
            .split_at_checked(ORIGIN)
            .ok_or(Error::PageTokenInvalid)?;
        let expected = self.mac(ctx, body, filter)?;
        let is_ours = are_equal(mac, expected.as_ref());
        if is_ours && are_equal(origin, &self.origin(ctx.tenant(), mac)) {
            return serde_json::from_slice(body).map_err(|_| Error::PageTokenInvalid);
        }
        // Not for the caller, who is told the same: a token that was made for another tenant is no accident.
        match self.made_for(mac, origin) {
            Some(tenant) if tenant != ctx.tenant() => Err(Error::PageTokenForeign),
            _ => Err(Error::PageTokenInvalid),
        }
    }

    /// Whom a token was made for, bound to it so that nobody can make it look like another tenant's.
    fn origin(&self, tenant: TenantId, mac: &[u8]) -> [u8; ORIGIN] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(b"origin");
        context.update(tenant.uuid().as_bytes());
        context.update(mac);
        let tag = context.sign();
        let mut origin = [0; ORIGIN];
        let (id, bound) = origin.split_at_mut(16);
        id.copy_from_slice(tenant.uuid().as_bytes());
        for (byte, tag) in bound.iter_mut().zip(tag.as_ref()) {
            *byte = *tag;
        }
        origin
    }

    fn made_for(&self, mac: &[u8], origin: &[u8]) -> Option<TenantId> {
        let id = uuid::Uuid::from_slice(origin.get(..16)?).ok()?;
        let tenant = TenantId::new(id);
        are_equal(origin, &self.origin(tenant, mac)).then_some(tenant)
    }

    fn mac(&self, ctx: &Ctx, body: &[u8], filter: &impl Serialize) -> Result<hmac::Tag, Error> {
        let bound = serde_json::to_vec(&(
            ctx.tenant().to_string(),
            ctx.actor().kind(),
            ctx.actor().id(),
            ctx.method(),
            filter,
        ))
        .map_err(Error::internal)?;
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&(bound.len() as u64).to_be_bytes());
        context.update(&bound);
        context.update(body);
        Ok(context.sign())
    }
}

fn are_equal(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctx::{Actor, Clock};
    use crate::ids::TenantId;

    fn pages() -> Pages {
        Pages {
            key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &[7; 32])),
        }
    }

    fn ctx(tenant: TenantId, subject: &str, method: &'static str) -> Ctx {
        Ctx::of_call(
            tenant,
            Actor::User(subject.to_owned()),
            [].into(),
            method,
            uuid::Uuid::nil(),
            Clock::system(),
        )
    }

    fn token(ctx: &Ctx, filter: &str) -> String {
        let page: Page<u32> = Page {
            size: 1,
            after: None,
        };
        pages()
            .finish(ctx, &page, vec![1_u32, 2], &filter, |n| *n, |n| n)
            .unwrap()
            .1
    }

    #[test]
    fn a_token_is_good_only_for_its_tenant_principal_method_and_filter() {
        let a = TenantId::PLATFORM;
        let own = ctx(a, "kim", "List");
        let token = token(&own, "active");
        let read = |ctx: &Ctx, filter: &str| {
            pages()
                .read::<u32>(ctx, 0, &token, &filter)
                .map(|page| page.after)
        };
        assert_eq!(read(&own, "active").unwrap(), Some(1));
        assert!(read(&ctx(TenantId::NONE, "kim", "List"), "active").is_err());
        assert!(read(&ctx(a, "lee", "List"), "active").is_err());
        assert!(read(&ctx(a, "kim", "ListOther"), "active").is_err());
        assert!(read(&own, "archived").is_err());
    }

    #[test]
    fn a_changed_or_cut_token_is_refused() {
        let own = ctx(TenantId::PLATFORM, "kim", "List");
        let token = token(&own, "");
        for i in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[i] = if bytes[i] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(bytes).unwrap();
            assert!(
                pages().read::<u32>(&own, 0, &forged, &"").is_err(),
                "position {i}"
            );
            assert!(pages().read::<u32>(&own, 0, &token[..i], &"").is_err() || i == 0);
        }
        assert!(
            pages()
                .read::<u32>(&own, 0, &"A".repeat(1 << 20), &"")
                .is_err()
        );
    }

    #[test]
    fn a_token_of_another_tenant_is_told_from_a_forged_one_and_only_by_the_service() {
        let theirs = token(&ctx(TenantId::PLATFORM, "kim", "List"), "active");
        let own = ctx(TenantId::NONE, "lee", "List");
        let refusal = |text: &str| pages().read::<u32>(&own, 0, text, &"").unwrap_err();
        assert!(matches!(refusal(&theirs), Error::PageTokenForeign));
        assert_eq!(
            refusal(&theirs).to_string(),
            Error::PageTokenInvalid.to_string()
        );
        let mut bytes = BASE64URL_NOPAD.decode(theirs.as_bytes()).unwrap();
        for i in 0..MAC + ORIGIN {
            bytes[i] ^= 1;
            let forged = BASE64URL_NOPAD.encode(&bytes);
            assert!(
                matches!(refusal(&forged), Error::PageTokenInvalid),
                "byte {i}"
            );
            bytes[i] ^= 1;
        }
        let of_a_colleague = token(&ctx(TenantId::NONE, "kim", "List"), "");
        assert!(matches!(refusal(&of_a_colleague), Error::PageTokenInvalid));
    }

    #[test]
    fn a_page_of_long_items_ends_before_a_mebibyte_and_holds_one_at_least() {
        let own = ctx(TenantId::PLATFORM, "kim", "List");
        let pages = pages();
        let of = |length: usize| {
            let page = pages.read::<u32>(&own, 500, "", &"").unwrap();
            let rows: Vec<u32> = (1..=500).collect();
            let item = |_| "x".repeat(length);
            let (items, token) = pages.finish(&own, &page, rows, &"", |n| *n, item).unwrap();
            let bytes: usize = items.iter().map(|it| it.encoded_len() + FRAME).sum();
            let next = pages.read::<u32>(&own, 0, &token, &"").unwrap();
            (items.len(), bytes, next.after)
        };
        assert_eq!(of(10).0, 500);
        assert_eq!(of(10).2, None);
        let (count, bytes, next) = of(10_000);
        assert_eq!(next, u32::try_from(count).ok());
        assert!(
            (1_000_000..1_048_576).contains(&bytes),
            "{count} of {bytes}"
        );
        assert_eq!(of(2_000_000).0, 1);
        assert_eq!(of(2_000_000).2, Some(1));
    }

    #[test]
    fn sizes_are_coerced() {
        let own = ctx(TenantId::PLATFORM, "kim", "List");
        let size = |wish| {
            pages()
                .read::<u32>(&own, wish, "", &"")
                .map(|page| page.size)
        };
        assert_eq!(size(0).unwrap(), 50);
        assert_eq!(size(10_000).unwrap(), 500);
        assert!(size(-1).is_err());
    }
}
