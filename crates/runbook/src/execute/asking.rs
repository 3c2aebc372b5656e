//! People are asked, and what they say is kept before anything follows from it.

use super::{Done, Executor, Outputs, Question, Scope, Stand};
use crate::{
    action::{
        Action,
        approve::Approve,
        decide::{By, Decide},
    },
    course::{Course, Given, NO, Next, YES},
    document::Section,
    event::{AfterFailure, Asked, Event},
    step::Step,
};

impl<'e> Executor<'e> {
    pub(super) async fn ask(
        &mut self,
        scope: &mut Scope<'e>,
        section: &'e Section,
        step: &'e Step,
        asked: Asked,
        why: Option<String>,
        already: Vec<String>,
    ) -> Done<Option<Stand>> {
        let id = scope.id(section);
        let question = question(&scope.course, &id, section, step, asked, why, already.clone());
        let given = match self.answer(scope, &question).await? {
            Answer::Given(given) => given,
            Answer::Unfit => return Ok(None),
            Answer::Stands(stand) => return Ok(Some(stand)),
        };
        let Next::Doubt { attempt, .. } = scope.course.next() else { return Ok(None) };
        match given.answer.as_str() {
            YES => {
                let known = format!("done, says {}", given.who);
                self.end(scope, section, attempt, Ok(Outputs::new()), Some(&known)).await?;
                Ok(None)
            }
            _ => {
                self.write(scope, None, Event::Started { step: id, attempt: attempt + 1 }).await?;
                self.act(scope, section, step, attempt + 1).await
            }
        }
    }

    /// Asks, and keeps what was answered.
    pub(super) async fn answer(&mut self, scope: &mut Scope<'e>, question: &Question<'_>) -> Done<Answer> {
        let answered = tokio::select! {
            answered = self.people.ask(question) => answered,
            () = self.cancel.cancelled() => return Ok(Answer::Stands(Stand::Interrupted)),
        };
        let step = question.id.clone();
        let Some(given) = answered else { return Ok(Answer::Stands(Stand::Waits { step })) };
        let is_twice = question.asked == Asked::Question && question.already.contains(&given.who);
        if is_twice || !question.answers.contains(&given.answer) {
            return Ok(Answer::Unfit);
        }
        let Given { who, answer, comment } = given.clone();
        self.write(scope, Some(&who), Event::Answered { step, asked: question.asked, answer, comment }).await?;
        Ok(Answer::Given(given))
    }

    /// A step that people decide ends with what they said.
    pub(super) async fn settle(
        &mut self,
        scope: &mut Scope<'e>,
        section: &'e Section,
        step: &'e Step,
        given: Given,
        consent: &[String],
    ) -> Done<Option<Stand>> {
        let attempt = scope.course.attempts(&section.id);
        let Given { who, answer, comment } = given;
        let words = comment.clone().unwrap_or_default();
        let done = match &step.action {
            Action::Decide(_) => Ok(Outputs::from([("answer".to_owned(), answer)])),
            _ if answer != YES => {
                Err(format!("{who} says {answer}{}", comment.map_or(String::new(), |why| format!(": {why}"))))
            }
            Action::Approve(Approve { people, .. }) if (consent.len() as u64) < u64::from(*people) => {
                return self.ask(scope, section, step, Asked::Question, None, consent.to_vec()).await;
            }
            Action::Approve(_) => {
                Ok(Outputs::from([("who".to_owned(), consent.join(", ")), ("comment".to_owned(), words)]))
            }
            _ => Ok(Outputs::from([("who".to_owned(), who), ("note".to_owned(), words)])),
        };
        self.end(scope, section, attempt, done, None).await.map(|()| None)
    }
}

/// What came of asking.
pub(super) enum Answer {
    /// It was answered, and that is kept.
    Given(Given),
    /// Not what was asked, or not by whom it can be: it is asked again.
    Unfit,
    /// Nobody has answered.
    Stands(Stand),
}

/// What people decide, and nobody does.
pub(crate) fn people_decide(action: &Action) -> bool {
    match action {
        Action::Approve(_) | Action::Manual(_) => true,
        Action::Decide(decide) => matches!(decide.by, By::Question(_)),
        _ => false,
    }
}

pub(super) fn yes_or_no() -> Vec<String> {
    vec![YES.to_owned(), NO.to_owned()]
}

fn question<'q>(
    course: &Course<'_>,
    id: &str,
    section: &'q Section,
    step: &'q Step,
    asked: Asked,
    why: Option<String>,
    already: Vec<String>,
) -> Question<'q> {
    let (text, answers, role, comment) = match (asked, &step.action) {
        (Asked::Failure, _) => {
            let text = format!("It failed: {}. What now?", why.unwrap_or_default());
            (text, AfterFailure::WORDS.iter().map(|(word, _)| (*word).to_owned()).collect(), None, false)
        }
        (Asked::Doubt, _) => {
            ("The run was cut off in the middle of this step. Was it done?".to_owned(), yes_or_no(), None, false)
        }
        (Asked::Question, Action::Approve(Approve { question, role, comment, .. })) => {
            (course.fill(question), yes_or_no(), Some(role.value.as_str()), *comment)
        }
        (Asked::Question, Action::Decide(Decide { by: By::Question(question), answers })) => {
            (course.fill(question), answers.iter().map(|(answer, _)| answer.clone()).collect(), None, false)
        }
        (Asked::Question, action) => (action.words(&|template| course.fill(template)), yes_or_no(), None, false),
    };
    let role = role.or(step.role.as_ref().map(|role| role.value.as_str()));
    Question { id: id.to_owned(), section, asked, text, answers, role, comment, already }
}
