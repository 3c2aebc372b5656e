//! The whole climb.

use lifeboat_model::check::{Outcome, Verdict};

use crate::origin::{check, drill, enabled, failed, nothing_left, request, work_root};

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_copy_passes_every_rung() {
    if !enabled() {
        return;
    }
    let work = work_root();
    let mut request = request(work.path());
    request.config.checks = crate::own::right();
    let report = drill(request).await;
    assert_eq!(failed(&report), [] as [&str; 0]);
    for also in ["files.pages", "data.digests", "use.assets"] {
        assert_eq!(check(&report, also).verdict, Verdict::Passed, "{also}");
    }
    for spec in lifeboat_drill::ladder::LADDER.iter().filter(|spec| spec.required) {
        assert_eq!(check(&report, spec.id).verdict, Verdict::Passed, "{}", spec.id);
    }
    let own: Vec<_> = report.checks.iter().filter(|check| check.id.starts_with("own.")).collect();
    assert_eq!(own.iter().filter(|check| check.verdict.is_passed()).count(), crate::own::right().len(), "{own:?}");
    assert!(own.iter().all(|check| check.rung == 12));
    assert_eq!(report.outcome, Outcome::Passed);
    assert!(report.isolation.as_ref().is_some_and(|isolation| isolation.internal && isolation.leaks.is_empty()));
    assert!(report.images.iter().all(|image| image.id.starts_with("sha256:")));
    nothing_left(&report, work.path());
}
