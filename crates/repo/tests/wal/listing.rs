//! Which positions are held, and by which objects.

use crate::world::*;

const S: u64 = SEGMENT;

#[tokio::test(flavor = "multi_thread")]
async fn gaps_overlaps_and_duplicates() {
    type Spans = Vec<(u64, u64)>;
    // Slices as stored; runs; objects of the first run.
    let cases: Vec<(Spans, Spans, Spans)> = vec![
        (vec![], vec![], vec![]),
        (vec![(10, 20), (20, 30)], vec![(10, 30)], vec![(10, 20), (20, 30)]),
        (vec![(10, 20), (21, 30)], vec![(10, 20), (21, 30)], vec![(10, 20)]),
        (vec![(10, 20), (10, 20)], vec![(10, 20)], vec![(10, 20)]),
        (vec![(10, 20), (15, 25), (20, 40)], vec![(10, 40)], vec![(10, 20), (20, 40)]),
        (vec![(10, 20), (15, 25), (22, 40)], vec![(10, 40)], vec![(10, 20), (15, 25), (22, 40)]),
        (vec![(10, 40), (15, 25), (40, 50)], vec![(10, 50)], vec![(10, 40), (40, 50)]),
        (vec![(10, 12), (10, 30), (12, 20)], vec![(10, 30)], vec![(10, 30)]),
        // The last slice of a segment ends exactly at its end, the next begins there, or one byte is missing.
        (vec![(S - 5, S), (S, S + 5)], vec![(S - 5, S + 5)], vec![(S - 5, S), (S, S + 5)]),
        (vec![(S - 5, S - 1), (S, S + 5)], vec![(S - 5, S - 1), (S, S + 5)], vec![(S - 5, S - 1)]),
        (vec![(S - 5, S), (S + 1, S + 5)], vec![(S - 5, S), (S + 1, S + 5)], vec![(S - 5, S)]),
    ];
    for (stored, runs, first_run) in cases {
        let world = World::new();
        for (first, last) in &stored {
            world.slice(*first, *last).await;
        }
        let found = world.list(0).await.runs();
        assert_eq!(spans(&found), runs, "of {stored:?}");
        assert_eq!(found.first().map(pieces).unwrap_or_default(), first_run, "of {stored:?}");
        for run in &found {
            world.assert_reads(run).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_supersede_their_slices_and_holes_are_filled_by_slices() {
    let world = World::new();
    for segment in 0..4 {
        for (first, last) in [(0, 100), (100, 700_000), (700_000, S)] {
            world.slice(segment * S + first, segment * S + last).await;
        }
    }
    for segment in [0, 1, 3] {
        world.segment(segment).await;
    }
    world.slice(4 * S, 4 * S + 5).await;
    let listing = world.list(0).await;
    let expected = [
        (0, S),
        (S, 2 * S),
        (2 * S, 2 * S + 100),
        (2 * S + 100, 2 * S + 700_000),
        (2 * S + 700_000, 3 * S),
        (3 * S, 4 * S),
        (4 * S, 4 * S + 5),
    ];
    let runs = listing.runs();
    assert_eq!((spans(&runs), pieces(&runs[0])), (vec![(0, 4 * S + 5)], expected.to_vec()));
    assert_eq!(listing.objects().len(), expected.len(), "superseded slices are not there");
    world.assert_reads(&runs[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_that_slices_fill_in_part_is_a_gap() {
    let world = World::new();
    world.segment(0).await;
    world.slice(S, S + 100).await;
    world.slice(S + 200, 2 * S).await;
    world.segment(2).await;
    let runs = world.list(0).await.runs();
    assert_eq!(spans(&runs), [(0, S + 100), (S + 200, 3 * S)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_begins_with_the_object_that_holds_the_position() {
    let world = World::new();
    for segment in [64, 65, 66, 68] {
        world.segment(segment).await;
    }
    world.slice(69 * S, 69 * S + 1000).await;
    world.slice(69 * S + 1000, 69 * S + 2000).await;
    let end = 69 * S + 2000;
    let last_run = (68 * S, end);
    // From where; runs listed; the first object needed from there on.
    let cases = [
        (0, vec![(64 * S, 67 * S), last_run], None),
        (64 * S - 1, vec![(64 * S, 67 * S), last_run], None),
        (64 * S, vec![(64 * S, 67 * S), last_run], Some(64 * S)),
        (65 * S - 1, vec![(64 * S, 67 * S), last_run], Some(64 * S)),
        (65 * S, vec![(65 * S, 67 * S), last_run], Some(65 * S)),
        (66 * S + 7, vec![(66 * S, 67 * S), last_run], Some(66 * S)),
        (67 * S, vec![last_run], None),
        (68 * S + 7, vec![last_run], Some(68 * S)),
        (69 * S + 999, vec![(69 * S, end)], Some(69 * S)),
        (69 * S + 1000, vec![(69 * S + 1000, end)], Some(69 * S + 1000)),
        (end - 1, vec![(69 * S + 1000, end)], Some(69 * S + 1000)),
        (end, vec![], None),
        (200 * S, vec![], None),
    ];
    for (from, runs, needed) in cases {
        let listing = world.list(from).await;
        assert_eq!(spans(&listing.runs()), runs, "from {from:#x}");
        let run = listing.from(lifeboat_model::lsn::Lsn(from));
        assert_eq!(run.as_ref().map(|run| run.first.0), needed, "from {from:#x}");
        if let Some(run) = run {
            assert!(run.first.0 <= from && run.objects[0].last.0 > from);
            world.assert_reads(&run).await;
        }
        // A longer listing, cut to the same position, says the same.
        let cut = world.list(0).await.from(lifeboat_model::lsn::Lsn(from));
        assert_eq!(cut, listing.from(lifeboat_model::lsn::Lsn(from)), "from {from:#x}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_do_not_mix() {
    let world = World::new();
    world.slice(0, 1000).await;
    let writer = world.writer().await;
    for (system, timeline) in [(SYSTEM, TIMELINE + 1), (SYSTEM + 1, TIMELINE), (SYSTEM / 10, TIMELINE)] {
        let kind = lifeboat_repo::wal::WalObjectKind::Slice;
        writer.put(kind, system, timeline, S, lifeboat_model::lsn::Lsn(1000), wal(1000, 2000), None).await.unwrap();
    }
    assert_eq!(spans(&world.list(0).await.runs()), [(0, 1000)]);
}
