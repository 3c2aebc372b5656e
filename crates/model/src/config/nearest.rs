//! The known word that was probably meant.

/// The nearest of `known` to `word`, if it is near enough to be a slip of the fingers or a missing part.
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let word: Vec<char> = word.chars().take(64).flat_map(char::to_lowercase).collect();
    let allowed = 1 + word.len() / 4;
    known
        .map(|candidate| {
            let letters: Vec<char> = candidate.chars().collect();
            let related = word.len() >= 3 && (starts(&letters, &word) || starts(&word, &letters));
            (if related { 1 } else { distance(&word, &letters) }, candidate)
        })
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

fn starts(long: &[char], short: &[char]) -> bool {
    short.len() >= 3 && long.starts_with(short)
}

/// Insertions, deletions, replacements and swaps of neighbours (optimal string alignment).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_slips_and_nothing_far() {
        let known = ["host", "port", "user", "password_file", "password_env", "databases"];
        let cases = [
            ("prot", Some("port")),
            ("Port", Some("port")),
            ("hots", Some("host")),
            ("hostname", Some("host")),
            ("database", Some("databases")),
            ("pasword_file", Some("password_file")),
            ("colour", None),
            ("x", None),
            ("", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, known.into_iter()), expected, "{word}");
        }
    }
}
