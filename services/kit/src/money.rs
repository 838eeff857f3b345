//! Exact amounts of one currency.

use serde::{Deserialize, Serialize};

use crate::fields::Fields;

/// An amount in the smallest unit of its currency: 1050 EUR is 10.50 euros. Never added across currencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// The amount, in minor units.
    pub minor_units: i64,
    /// The ISO 4217 code, three capital letters.
    pub currency: Currency,
}

/// An ISO 4217 code by its form; which codes exist changes more often than this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Currency([u8; 3]);

impl Currency {
    /// Three capital letters, or none.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 3] = text.as_bytes().try_into().ok()?;
        bytes
            .iter()
            .all(u8::is_ascii_uppercase)
            .then_some(Self(bytes))
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl TryFrom<String> for Currency {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("no ISO 4217 code")
    }
}

impl From<Currency> for String {
    fn from(currency: Currency) -> Self {
        currency.as_str().to_owned()
    }
}

impl Money {
    /// Reads the two columns of a stored amount; both are set, or neither.
    pub fn from_columns(minor_units: Option<i64>, currency: Option<&str>) -> Option<Self> {
        Some(Self {
            minor_units: minor_units?,
            currency: Currency::parse(currency?)?,
        })
    }
}

impl From<Money> for proto::common::v1::Money {
    fn from(money: Money) -> Self {
        Self {
            minor_units: money.minor_units,
            currency_code: money.currency.as_str().to_owned(),
        }
    }
}

impl Fields {
    /// An optional amount that is not negative.
    pub fn optional_money(
        &mut self,
        field: &str,
        value: Option<&proto::common::v1::Money>,
    ) -> Option<Money> {
        let value = value?;
        if value.minor_units < 0 {
            self.reject(&format!("{field}.minor_units"), "must not be negative");
            return None;
        }
        let currency = Currency::parse(&value.currency_code);
        if currency.is_none() {
            self.reject(
                &format!("{field}.currency_code"),
                "must be an ISO 4217 code of three capital letters",
            );
        }
        Some(Money {
            minor_units: value.minor_units,
            currency: currency?,
        })
    }
}
