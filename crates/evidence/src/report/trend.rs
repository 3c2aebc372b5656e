//! How a measure goes from drill to drill: is the newest one as the others were?

use serde::Serialize;

/// What the newest of several measures looks like beside those before it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Trend {
    /// The newest.
    pub newest_seconds: f64,
    /// The median of those before it.
    pub usual_seconds: f64,
    /// The longest of all.
    pub worst_seconds: f64,
    /// How many were looked at, the newest included.
    pub measures: u64,
    /// In a word.
    pub direction: Direction,
}

/// Where a measure goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The newest is shorter than usual by more than [`NOISE`].
    Faster,
    /// It is about as usual.
    Steady,
    /// It is longer than usual by more than [`NOISE`].
    Slower,
}

/// Two restores of the same thing on the same machine differ by some percent; a quarter is something to look at.
pub const NOISE: f64 = 0.25;
/// And a second is nothing, whatever part of a short measure it is.
const FLOOR_SECONDS: f64 = 2.0;

impl Direction {
    /// As people read it.
    pub fn word(self) -> &'static str {
        match self {
            Direction::Faster => "faster than usual",
            Direction::Steady => "as usual",
            Direction::Slower => "slower than usual",
        }
    }
}

/// The trend of measures in seconds, oldest first. None where there are not two to compare.
pub fn trend(measures: &[f64]) -> Option<Trend> {
    let (newest, before) = measures.split_last()?;
    let usual_seconds = median(before)?;
    let difference = newest - usual_seconds;
    let direction = match difference.abs() > (usual_seconds * NOISE).max(FLOOR_SECONDS) {
        false => Direction::Steady,
        true if difference < 0.0 => Direction::Faster,
        true => Direction::Slower,
    };
    let worst_seconds = measures.iter().copied().fold(f64::MIN, f64::max);
    Some(Trend { newest_seconds: *newest, usual_seconds, worst_seconds, measures: measures.len() as u64, direction })
}

/// None of nothing.
pub fn median(measures: &[f64]) -> Option<f64> {
    let mut sorted = measures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_held_against_the_median_of_the_others() {
        assert_eq!(trend(&[]), None);
        assert_eq!(trend(&[30.0]), None, "one measure has no trend");
        let direction = |measures: &[f64]| trend(measures).unwrap().direction;
        assert_eq!(direction(&[30.0, 31.0, 29.0, 36.0]), Direction::Steady);
        assert_eq!(direction(&[30.0, 31.0, 29.0, 45.0]), Direction::Slower);
        assert_eq!(direction(&[30.0, 900.0, 29.0, 31.0]), Direction::Steady, "one odd drill is not the usual");
        assert_eq!(direction(&[300.0, 310.0, 100.0]), Direction::Faster);
        assert_eq!(direction(&[1.0, 2.5]), Direction::Steady, "a second is noise");
        let trend = trend(&[10.0, 20.0, 90.0]).unwrap();
        assert_eq!((trend.usual_seconds, trend.worst_seconds, trend.measures), (15.0, 90.0, 3));
    }
}
