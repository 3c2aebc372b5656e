//! Draws that can be repeated: the same seed on the same copy damages the same thing.
//!
//! Not for secrets. The generator is SplitMix64 (Steele, Lea and Flood, 2014), which is enough to pick victims and needs no
//! dependency whose next release might draw otherwise.

use std::{fmt, str::FromStr};

use crate::error::{Error, Result};

/// What all draws of a set of controls come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// From the operating system.
    pub fn random() -> Result<Seed> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).map_err(|_| Error::NoRandomness)?;
        Ok(Seed(u64::from_le_bytes(bytes)))
    }

    /// One of the kinds.
    pub fn kind(self) -> super::Kind {
        let all = super::Kind::ALL;
        all[self.of("kind").below(all.len() as u64) as usize]
    }

    /// The draws of one control: a control alone draws as it does in a set.
    pub(super) fn of(self, purpose: &str) -> Chance {
        // FNV-1a.
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Chance(self.0 ^ purpose.bytes().fold(0xcbf2_9ce4_8422_2325, hash))
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Seed {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let digits = (1..=16).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_hexdigit());
        let seed = u64::from_str_radix(text, 16).ok().filter(|_| digits);
        seed.map(Seed).ok_or_else(|| "a seed has 1 to 16 hexadecimal digits, as a control prints it".to_owned())
    }
}

/// A run of draws.
#[derive(Debug, Clone)]
pub(super) struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; zero where there is none.
    pub fn below(&mut self, end: u64) -> u64 {
        let drawn = self.next();
        ((u128::from(drawn) * u128::from(end)) >> 64) as u64
    }

    /// One of these.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len() as u64) as usize)
    }

    /// These in another order.
    pub fn shuffled<T>(&mut self, mut items: Vec<T>) -> Vec<T> {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
        items
    }

    /// Bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            piece.copy_from_slice(&self.next().to_le_bytes()[..piece.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_and_kinds_draw_apart() {
        let draws = |seed: Seed, purpose| {
            let mut chance = seed.of(purpose);
            (0..8).map(|_| chance.below(1000)).collect::<Vec<_>>()
        };
        assert_eq!(draws(Seed(7), "deleted-row"), draws(Seed(7), "deleted-row"));
        assert_ne!(draws(Seed(7), "deleted-row"), draws(Seed(8), "deleted-row"));
        assert_ne!(draws(Seed(7), "deleted-row"), draws(Seed(7), "changed-value"));
        assert_eq!("00000000000000ff".parse(), Ok(Seed(255)));
        assert_eq!(Seed(255).to_string().parse(), Ok(Seed(255)));
        assert!("".parse::<Seed>().is_err() && "+1".parse::<Seed>().is_err() && "x".parse::<Seed>().is_err());
    }

    #[test]
    fn draws_lie_in_range_and_reach_all_of_it() {
        let mut chance = Seed(1).of("test");
        let drawn: std::collections::BTreeSet<u64> = (0..200).map(|_| chance.below(5)).collect();
        assert_eq!(drawn, (0..5).collect());
        assert_eq!((chance.below(0), chance.one::<u8>(&[])), (0, None));
        let mut shuffled = chance.shuffled((0..20).collect());
        assert_ne!(shuffled, (0..20).collect::<Vec<_>>());
        shuffled.sort_unstable();
        assert_eq!(shuffled, (0..20).collect::<Vec<_>>());
        let kinds: std::collections::BTreeSet<&str> = (0..300).map(|seed| Seed(seed).kind().word()).collect();
        assert_eq!(kinds.len(), super::super::Kind::ALL.len(), "each can be drawn");
    }
}
