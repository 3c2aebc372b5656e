//! `decide` by a check: an action that changes nothing, whose answers are `passed` and `failed`.

use lifeboat_runbook::{
    action::decide::{By, Decide},
    execute::{Acting, Outputs},
};

use super::{Tools, act as ask};

pub(super) async fn act(decide: &Decide, acting: &Acting<'_>, tools: &Tools) -> Result<Outputs, String> {
    let By::Check(check) = &decide.by else { return Err("a defect of ours: people decide this".to_owned()) };
    let answer = match ask(check, acting, tools).await {
        Ok(_) => "passed",
        Err(why) => {
            (tools.talk)(&format!("the answer is failed: {}", tools.masks.mask(&why)));
            "failed"
        }
    };
    Ok(Outputs::from([("answer".to_owned(), answer.to_owned())]))
}
