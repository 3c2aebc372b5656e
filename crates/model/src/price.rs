//! What storage costs, in whatever money people pay with.

use std::{fmt, str::FromStr};

/// So much of some money. Text: a number and what it is of, as `0.023 USD`.
#[derive(Debug, Clone, PartialEq)]
pub struct Price {
    /// How much.
    pub amount: f64,
    /// Of what: a word of the people's own.
    pub currency: String,
}

/// The text is not a price.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a price: write a number and the money that it is of, for example \"0.023 USD\"")]
pub struct PriceError(String);

/// The longest name of some money.
const LONGEST: usize = 12;

impl FromStr for Price {
    type Err = PriceError;
    fn from_str(text: &str) -> Result<Self, PriceError> {
        let error = || PriceError(text.to_owned());
        let (amount, currency) = text.trim().split_once(char::is_whitespace).ok_or_else(error)?;
        let is_plain =
            amount.bytes().all(|c| c.is_ascii_digit() || c == b'.') && amount.starts_with(|c: char| c != '.');
        let amount: f64 = amount.parse().map_err(|_| error())?;
        let currency = currency.trim();
        let is_word = (1..=LONGEST).contains(&currency.chars().count())
            && currency.chars().all(|c| !c.is_whitespace() && !c.is_control() && !c.is_ascii_digit());
        match is_plain && amount.is_finite() && is_word {
            true => Ok(Price { amount, currency: currency.to_owned() }),
            false => Err(error()),
        }
    }
}

impl Price {
    /// So many times as much.
    pub fn times(&self, times: f64) -> Price {
        Price { amount: self.amount * times, currency: self.currency.clone() }
    }
}

impl fmt::Display for Price {
    /// To the hundredth; what is less than that and not nothing says so.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.amount {
            amount if amount > 0.0 && amount < 0.01 => write!(f, "less than 0.01 {}", self.currency),
            amount => write!(f, "{amount:.2} {}", self.currency),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form() {
        let price: Price = "0.023 USD".parse().unwrap();
        assert_eq!(price, Price { amount: 0.023, currency: "USD".to_owned() });
        assert_eq!(price.times(1000.0).to_string(), "23.00 USD");
        assert_eq!(price.times(0.1).to_string(), "less than 0.01 USD");
        assert_eq!(price.times(0.0).to_string(), "0.00 USD");
        assert_eq!(" 5 €".parse(), Ok(Price { amount: 5.0, currency: "€".to_owned() }));
        for bad in
            ["", "5", "USD", "USD 5", "-1 USD", "1e3 USD", "NaN USD", "inf USD", "0,02 EUR", ".5 EUR", "1 US D", "1 2"]
        {
            assert!(bad.parse::<Price>().is_err(), "{bad:?}");
        }
    }
}
