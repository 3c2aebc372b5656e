//! The whole climb.

use lifeboat_model::check::{Outcome, Verdict};

use crate::origin::{check, drill, enabled, failed, nothing_left, request, work_root};

/// What this source cannot answer: there is no repository and no recorded digest.
const ELSEWHERE: [&str; 4] = ["point.signature", "point.objects", "point.versions", "data.digests"];

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_copy_passes_every_rung() {
    if !enabled() {
        return;
    }
    let work = work_root();
    let report = drill(request(work.path())).await;
    assert_eq!(failed(&report), [] as [&str; 0]);
    for spec in lifeboat_drill::ladder::LADDER.iter().filter(|spec| spec.required && !ELSEWHERE.contains(&spec.id)) {
        if spec.id != "measure.rpo" {
            assert_eq!(check(&report, spec.id).verdict, Verdict::Passed, "{}", spec.id);
        }
    }
    // Without a signature there is no pass: the source is no recovery point.
    assert_eq!(report.outcome, Outcome::Incomplete);
    assert!(report.isolation.as_ref().is_some_and(|isolation| isolation.internal && isolation.leaks.is_empty()));
    assert!(report.images.iter().all(|image| image.id.starts_with("sha256:")));
    nothing_left(&report, work.path());
}
