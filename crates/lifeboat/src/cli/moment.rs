//! `--point`, `--at`, `--lsn`, `--restore-point`, `--timeline`: which moment a restore or a drill is to bring back.

use clap::Args;
use jiff::Timestamp;
use lifeboat_engine::{
    keys::host_identity,
    recovery::{self, Plan, Target, Wish},
};
use lifeboat_model::{config::Config, lsn::Lsn};
use lifeboat_repo::{
    point::{Point, PointSelector},
    repository::InstanceRepo,
    seal::Identity,
};

use crate::{
    failure::{Failure, Result},
    wire,
};

/// Only these options stand below it, not what follows them.
const HEADING: &str = "Moment (default: the latest that is held)";

/// The moment.
#[derive(Debug, Clone, Args)]
pub struct MomentArgs {
    /// Begin from this point: "latest", or 4 to 16 digits of its id; alone, the point as it is
    #[arg(long, value_name = "POINT", help_heading = HEADING)]
    point: Option<PointSelector>,
    /// Every commit until then: 2026-11-21T14:03:10+01:00 or "2026-11-21 14:03:10+01"
    #[arg(long, value_name = "TIME", value_parser = parse_time, group = "target", help_heading = HEADING)]
    at: Option<Timestamp>,
    /// Everything that the log has before this position: 0/16B3748
    #[arg(long, value_name = "LSN", group = "target", help_heading = HEADING)]
    lsn: Option<Lsn>,
    /// What pg_create_restore_point named so (the newest of that name)
    #[arg(long, value_name = "NAME", group = "target", help_heading = HEADING)]
    restore_point: Option<String>,
    /// The timeline to follow [default: the newest]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), help_heading = HEADING)]
    timeline: Option<u32>,
}

impl MomentArgs {
    /// Whether nothing was asked for but the latest.
    pub fn is_latest(&self) -> bool {
        self.point.is_none()
            && self.at.is_none()
            && self.lsn.is_none()
            && self.restore_point.is_none()
            && self.timeline.is_none()
    }

    /// What is wished for. Without any argument that is the latest moment where the log is archived, else the latest point.
    pub async fn wish(&self, repo: &InstanceRepo) -> Result<Wish> {
        let named = [
            self.at.map(Target::Time),
            self.lsn.map(Target::Lsn),
            self.restore_point.clone().map(Target::RestorePoint),
        ];
        let target = match named.into_iter().flatten().next() {
            Some(target) => target,
            None if self.point.is_some() && self.timeline.is_none() => Target::PointEnd,
            None if self.timeline.is_none() && repo.wal_archive().streams().await?.is_empty() => Target::PointEnd,
            None => Target::Latest,
        };
        Ok(Wish { point: self.point.clone(), target, timeline: self.timeline })
    }

    /// The point that is named alone, where it holds logical dumps.
    pub async fn dump(&self, repo: &InstanceRepo, config: &Config) -> Result<Option<Point>> {
        let is_alone = self.at.is_none() && self.lsn.is_none() && self.restore_point.is_none();
        let Some(selector @ PointSelector::Id(_)) = self.point.as_ref().filter(|_| is_alone) else { return Ok(None) };
        let point = wire::find_point(repo, selector, config).await?;
        Ok(Some(point).filter(|point| point.header.is_dump()))
    }

    /// Plans it. Where there is no point, and no such instance is configured either, the name is what is wrong.
    pub async fn plan(&self, repo: &InstanceRepo, config: &Config, identities: &[Identity]) -> Result<Plan> {
        let wish = self.wish(repo).await?;
        let known = known(identities, config);
        match recovery::plan(repo, &config.keys.trusted_keys, &known, &wish).await {
            Err(lifeboat_engine::Error::Repo(error @ lifeboat_repo::Error::NoPoint { .. })) => {
                config.instance(repo.instance().as_str())?;
                Err(error.into())
            }
            planned => Ok(planned.map_err(Failure::from)?),
        }
    }
}

/// These identities and the host's own, which opens lists and headers' details where a recovery identity is not of the time of the
/// point.
pub fn known(identities: &[Identity], config: &Config) -> Vec<Identity> {
    identities.iter().cloned().chain(host_identity(&config.keys).ok()).collect()
}

/// Any recovery point, each as likely as another. One that cannot be read is not passed over: that is for the drill to find.
pub async fn random(repo: &InstanceRepo, config: &Config) -> Result<Wish> {
    let mut points = repo.list_points().await?;
    while !points.is_empty() {
        let index = usize::try_from(getrandom::u64()? % points.len() as u64).unwrap_or_default();
        let drawn = points.swap_remove(index);
        let is_dump =
            repo.read_point(&drawn, &config.keys.trusted_keys).await.is_ok_and(|point| point.header.is_dump());
        if !is_dump {
            return Ok(Wish {
                point: Some(PointSelector::Id(drawn.id.to_string())),
                target: Target::PointEnd,
                timeline: None,
            });
        }
    }
    // Says in the usual words that there is none.
    Ok(Wish { point: Some(PointSelector::Latest), target: Target::PointEnd, timeline: None })
}

/// A time that says in which zone it is: RFC 3339, or as PostgreSQL prints it.
pub(super) fn parse_time(text: &str) -> std::result::Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    // PostgreSQL writes a zone of whole hours without minutes.
    for form in ["%Y-%m-%d %H:%M:%S%.f%:z", "%Y-%m-%d %H:%M:%S%.f%z", "%Y-%m-%dT%H:%M:%S%.f%z"] {
        for zone in ["", "00", ":00"] {
            if let Ok(time) = Timestamp::strptime(form, format!("{text}{zone}")) {
                return Ok(time);
            }
        }
    }
    if text.parse::<jiff::civil::DateTime>().is_ok() {
        return Err(format!(
            "a time without a zone means another moment in each place: write \"{text}Z\" for UTC, or with its distance from UTC, as in \"{text}+01:00\""
        ));
    }
    Err("write a time with its zone, for example 2026-11-21T14:03:10+01:00 or \"2026-11-21 14:03:10+01\"".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_needs_its_zone() {
        let noon: Timestamp = "2026-11-21T13:03:10Z".parse().unwrap();
        for text in [
            "2026-11-21T14:03:10+01:00",
            "2026-11-21T13:03:10Z",
            "2026-11-21 14:03:10+01",
            "2026-11-21 14:03:10+01:00",
            "2026-11-21 14:03:10+0100",
            "2026-11-21T14:03:10+01",
            " 2026-11-21 13:03:10Z ",
        ] {
            assert_eq!(parse_time(text), Ok(noon), "{text}");
        }
        let fraction = parse_time("2026-11-21 14:03:10.123456+01").unwrap();
        assert_eq!(fraction.as_microsecond() - noon.as_microsecond(), 123_456);
        for text in ["2026-11-21T14:03:10", "2026-11-21 14:03:10", "2026-11-21 14:03"] {
            let why = parse_time(text).unwrap_err();
            assert!(why.contains("without a zone") && why.contains(&format!("{text}Z")), "{why}");
        }
        assert!(parse_time("yesterday").unwrap_err().contains("with its zone"));
    }
}
