//! What people read of a run: the prose beside a question, and what a step printed.

use std::{collections::BTreeMap, ops::Range};

use lifeboat_runbook::{action::Action, document::Document, printed::Printed};

/// Prose of a step that is shown beside its question.
const PROSE: usize = 1_500;

/// The text of a run's runbook, and of those that its steps run.
pub(super) struct Texts {
    /// The runbook's id.
    pub runbook: String,
    /// All of them by id, as the run was begun with.
    pub texts: BTreeMap<String, String>,
}

impl Texts {
    /// The text in which a step stands, by its id with the steps that led there: `call/step`.
    fn of(&self, step: &str) -> Option<&str> {
        let calls = step.rsplit_once('/').map(|(calls, _)| calls);
        let mut text = self.texts.get(&self.runbook)?;
        for call in calls.into_iter().flat_map(|calls| calls.split('/')) {
            let document = Document::parse(text).ok()?;
            let Action::Runbook(run) = &document.find(call)?.step.as_ref()?.action else { return None };
            text = self.texts.get(&run.runbook.value)?;
        }
        Some(text)
    }

    /// What stands in a section of it, for whoever answers.
    pub fn prose(&self, step: &str, section: &Range<usize>) -> String {
        self.of(step).and_then(|text| text.get(section.clone())).map(prose).unwrap_or_default()
    }
}

/// What people read before they answer: the section without its blocks of TOML.
fn prose(section: &str) -> String {
    let (mut kept, mut in_block) = (Vec::new(), false);
    for line in section.lines().skip(1) {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            kept.push(line);
        }
    }
    let text = kept.join("\n");
    text.trim().chars().take(PROSE).collect()
}

/// The end of what a step printed, and where the rest stands.
pub(super) fn in_lines(printed: &Printed, run: &str) -> String {
    let all = format!("  │ … {} lines before; all of it: lifeboat runbook runs {run} --json", printed.before);
    let rest = (printed.before > 0).then_some(all);
    let lines = printed.lines.iter().map(|line| format!("  │ {line}"));
    rest.into_iter().chain(lines).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runbook(id: &str, about: &str, step: &str) -> String {
        let head = format!("[runbook]\nid = \"{id}\"\nsummary = \"x\"");
        format!("# {id}\n\n```toml\n{head}\n```\n\n## Same\n\n{about}\n\n```toml\n{step}\n```\n")
    }

    /// Whoever is asked by a runbook that another one runs reads that one's text.
    #[test]
    fn a_question_shows_the_prose_of_its_own_runbook() {
        let manual = "action = \"manual\"\nlook_for = \"x\"\neffect = \"nothing\"";
        let call = |id: &str| format!("action = \"runbook\"\nrunbook = \"{id}\"");
        let texts = Texts {
            runbook: "outer".to_owned(),
            texts: [
                ("outer".to_owned(), runbook("outer", "Run the other one, once all else is done.", &call("middle"))),
                ("middle".to_owned(), runbook("middle", "And the next.", &call("inner"))),
                ("inner".to_owned(), runbook("inner", "Pull the plug of the old host.", manual)),
            ]
            .into(),
        };
        for (step, id, words) in [
            ("same", "outer", "Run the other one, once all else is done."),
            ("same/same", "middle", "And the next."),
            ("same/same/same", "inner", "Pull the plug of the old host."),
        ] {
            let document = Document::parse(&texts.texts[id]).unwrap();
            assert_eq!(texts.prose(step, &document.sections[0].text), words);
        }
        assert_eq!(texts.prose("same/none/same", &(0..4)), "", "nothing rather than something else");
    }

    #[test]
    fn the_end_of_what_was_printed_is_told_and_where_the_rest_is() {
        let shown = in_lines(&Printed { lines: vec!["a".to_owned(), "b".to_owned()], before: 3 }, "3fa9");
        assert_eq!(shown, "  │ … 3 lines before; all of it: lifeboat runbook runs 3fa9 --json\n  │ a\n  │ b");
    }
}
