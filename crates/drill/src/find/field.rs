//! What can be looked at: the recovery points of one history and the times that its log can bring back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use lifeboat_engine::recovery::{self, Window};
use lifeboat_model::id::PointId;

use super::{
    FindRequest, Moment,
    search::{Field, Place, Station},
};
use crate::error::{Error, Result};

/// Stations and what they are called.
pub(super) struct Stations {
    pub field: Field,
    points: Vec<(PointId, Timestamp)>,
    latest: Timestamp,
    /// What people should know.
    pub remarks: Vec<String>,
}

impl Stations {
    /// Of the request's instance, within the times that are asked about.
    pub async fn lay_out(request: &FindRequest) -> Result<Stations> {
        let failed = |error: lifeboat_engine::Error| Error::source("cannot see what is held")(Box::new(error));
        let windows = recovery::windows(&request.repo, &request.trusted, &request.identities).await.map_err(failed)?;
        let listed = request.repo.list_points().await.map_err(|error| failed(error.into()))?;
        let streams = request.repo.wal_archive().streams().await.map_err(|error| failed(error.into()))?;
        let times = listed.into_iter().map(|point| (point.id, point.time)).collect();
        let mut stations = lay_out(windows.windows, &times, !streams.is_empty(), request.after, request.before);
        stations.field.resolution = request.resolution;
        stations.remarks.extend(windows.skipped.iter().map(|why| format!("passed over: {why}")));
        match stations.field.stations.is_empty() {
            false => Ok(stations),
            true => Err(failed(
                lifeboat_repo::Error::NoPoint {
                    instance: request.repo.instance().clone(),
                    wanted: "to begin a search from".to_owned(),
                }
                .into(),
            )),
        }
    }

    /// The point before another: what can be replayed from that one can be from this, where the log has no gap.
    pub fn older(&self, than: PointId) -> Option<PointId> {
        let at = self.points.iter().position(|(id, _)| *id == than)?;
        self.points[..at].last().map(|(id, _)| *id)
    }

    /// The moment at a place.
    pub fn moment(&self, place: Place) -> Moment {
        match place {
            Place::Point(at) => {
                let (id, time) = self.points[at];
                Moment::Point(id, time)
            }
            Place::Time(time) => Moment::Time(time),
            Place::Latest => Moment::Latest(self.latest),
        }
    }
}

fn lay_out(
    windows: Vec<Window>,
    times: &BTreeMap<PointId, Timestamp>,
    has_log: bool,
    after: Option<Timestamp>,
    before: Option<Timestamp>,
) -> Stations {
    let (windows, mut remarks) = one_history(windows);
    let latest = windows.last().map_or(Timestamp::MIN, |window| window.to.time);
    let is_asked =
        |time: Timestamp| after.is_none_or(|after| after < time) && before.is_none_or(|before| time < before);
    let mut points: Vec<(PointId, Timestamp, usize)> = Vec::new();
    for (span, window) in windows.iter().enumerate() {
        let of_window = window.points.iter().filter_map(|id| Some((*id, *times.get(id)?, span)));
        points.extend(of_window.filter(|(_, time, _)| is_asked(*time)));
    }
    points.sort_by_key(|(_, time, _)| *time);
    let ends = |time: Timestamp| Station { place: Place::Time(time), time, span: None };
    let earliest = windows.first().map(|window| window.from.time);
    let mut stations = Vec::new();
    match after {
        Some(after) if earliest.is_some_and(|earliest| earliest < after) => stations.push(ends(after)),
        Some(after) => remarks.extend(earliest.map(|earliest| {
            format!("nothing of {after} is held: the search begins with the oldest moment, of {earliest}")
        })),
        None => {}
    }
    let at_points = points.iter().enumerate();
    stations.extend(at_points.map(|(at, (_, time, span))| Station {
        place: Place::Point(at),
        time: *time,
        span: Some(*span),
    }));
    match before {
        Some(before) if before < latest => stations.push(ends(before)),
        _ if has_log && after.is_none_or(|after| after < latest) => {
            stations.push(Station { place: Place::Latest, time: latest, span: None });
        }
        _ => {}
    }
    let spans = windows.iter().map(|window| (window.from.time, window.to.time)).collect();
    let points = points.into_iter().map(|(id, time, _)| (id, time)).collect();
    let field = Field { stations, spans, ..Field::default() };
    Stations { field, points, latest, remarks }
}

/// The windows that lie behind each other up to the one with the newest moment. What lies beside them, as on a timeline that was left,
/// is another history: a check may hold there and not here at the same time.
fn one_history(mut windows: Vec<Window>) -> (Vec<Window>, Vec<String>) {
    windows.sort_by_key(|window| std::cmp::Reverse((window.to.time, window.timeline)));
    let (mut kept, mut remarks): (Vec<Window>, Vec<String>) = (Vec::new(), Vec::new());
    for window in windows {
        let is_same = |other: &Window| other.system_id == window.system_id && other.timeline == window.timeline;
        match kept.last() {
            Some(later) if later.from.time < window.to.time && !is_same(later) => remarks.push(format!(
                "not searched: timeline {} from {} to {}, which lies beside timeline {}",
                window.timeline, window.from.time, window.to.time, later.timeline
            )),
            _ => kept.push(window),
        }
    }
    kept.reverse();
    (kept, remarks)
}

#[cfg(test)]
mod tests {
    use lifeboat_engine::recovery;
    use lifeboat_model::lsn::Lsn;

    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).unwrap()
    }

    fn window(timeline: u32, from: i64, to: i64, points: &[u8]) -> Window {
        let moment = |minute| recovery::Moment { lsn: Lsn(1), time: at(minute) };
        let points = points.iter().map(|id| PointId([*id; 8])).collect();
        Window { system_id: 7, timeline, from: moment(from), to: moment(to), points, is_cut: false }
    }

    fn places(stations: &Stations) -> Vec<Place> {
        stations.field.stations.iter().map(|station| station.place).collect()
    }

    #[test]
    fn points_stand_in_order_and_the_ends_are_what_was_asked_about() {
        let windows = vec![window(1, 10, 20, &[1]), window(1, 30, 60, &[2, 3])];
        let times = [(1, 10), (2, 30), (3, 40)].map(|(id, time)| (PointId([id; 8]), at(time))).into();
        let all = lay_out(windows.clone(), &times, true, None, None);
        assert_eq!(places(&all), [Place::Point(0), Place::Point(1), Place::Point(2), Place::Latest]);
        assert_eq!(all.moment(Place::Point(1)), Moment::Point(PointId([2; 8]), at(30)));
        assert_eq!(all.field.stations[2].span, Some(1));
        assert_eq!((all.older(PointId([3; 8])), all.older(PointId([1; 8]))), (Some(PointId([2; 8])), None));
        let without_log = lay_out(windows.clone(), &times, false, None, None);
        assert_eq!(places(&without_log), [Place::Point(0), Place::Point(1), Place::Point(2)]);
        let some = lay_out(windows.clone(), &times, true, Some(at(15)), Some(at(35)));
        assert_eq!(places(&some), [Place::Time(at(15)), Place::Point(0), Place::Time(at(35))]);
        let beyond = lay_out(windows, &times, true, Some(at(1)), Some(at(99)));
        assert_eq!(places(&beyond), places(&all));
        assert!(beyond.remarks[0].contains("nothing of"), "{:?}", beyond.remarks);
        assert!(lay_out(Vec::new(), &times, true, None, None).field.stations.len() < 2);
    }

    #[test]
    fn a_timeline_that_was_left_is_not_searched() {
        let windows = vec![window(2, 25, 60, &[2]), window(1, 10, 40, &[1]), window(1, 1, 5, &[0])];
        let (kept, remarks) = one_history(windows);
        assert_eq!(kept.iter().map(|window| window.points[0].0[0]).collect::<Vec<_>>(), [0, 2]);
        assert!(remarks[0].contains("timeline 1"), "{remarks:?}");
    }
}
