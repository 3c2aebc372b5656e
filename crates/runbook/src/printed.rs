//! What a step printed or found out, as people are shown it: the end of it.

use std::collections::BTreeMap;

/// So many lines are shown.
pub const SHOWN: usize = 30;
/// Of a line so much.
const WIDEST: usize = 400;

/// The end of what was printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Printed {
    /// Its lines, the last of them.
    pub lines: Vec<String>,
    /// How many stand before them in the journal.
    pub before: usize,
}

/// Of what a step gave; none: nothing that is there to be read.
pub fn of(outputs: &BTreeMap<String, String>) -> Option<Printed> {
    if let Some(output) = outputs.get("output") {
        let lines: Vec<&str> = output.trim_end().lines().collect();
        let before = lines.len().saturating_sub(SHOWN);
        let lines: Vec<String> = lines.iter().skip(before).map(|text| line(text)).collect();
        return (!lines.is_empty()).then_some(Printed { lines, before });
    }
    let (value, rows) = (outputs.get("value")?, outputs.get("rows")?);
    let text = match rows.as_str() {
        "0" => "no row".to_owned(),
        "1" => line(value),
        _ => line(&format!("{value} (the first of {rows} rows)")),
    };
    Some(Printed { lines: vec![text], before: 0 })
}

/// One line that a terminal can show, whatever a program wrote.
fn line(text: &str) -> String {
    let plain = text.replace('\t', "    ").replace(char::is_control, " ");
    match plain.char_indices().nth(WIDEST) {
        Some((end, _)) => format!("{}…", &plain[..end]),
        None => plain,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
mod tests {
    use super::*;

    fn outputs(given: &[(&str, &str)]) -> BTreeMap<String, String> {
        given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_end_of_it_is_shown_and_nothing_that_moves_a_cursor() {
        let long: String = (1..=40).map(|number| format!("line {number}\n")).collect();
        let printed = of(&outputs(&[("output", &long), ("exit", "0")])).unwrap();
        assert_eq!((printed.before, printed.lines.len()), (10, SHOWN));
        assert_eq!((printed.lines[0].as_str(), printed.lines[29].as_str()), ("line 11", "line 40"));
        let odd = of(&outputs(&[("output", "a\u{1b}[2Jb\n\tc\n")])).unwrap();
        assert_eq!(odd.lines, ["a [2Jb", "    c"]);
        assert_eq!(of(&outputs(&[("output", "\n"), ("exit", "0")])), None);
        assert_eq!(of(&outputs(&[("point", "3fa9")])), None);
        let wide = of(&outputs(&[("output", &"é".repeat(WIDEST + 1))])).unwrap();
        assert_eq!(wide.lines[0].chars().count(), WIDEST + 1);
        for (value, rows, shown) in [("42", "1", "42"), ("", "0", "no row"), ("42", "7", "42 (the first of 7 rows)")] {
            assert_eq!(of(&outputs(&[("value", value), ("rows", rows)])).unwrap().lines, [shown]);
        }
    }
}
