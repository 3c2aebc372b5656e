//! The form of the file, by version. A step is never changed after a release; the next one gets the next number.

use rusqlite::{Connection, ffi};

/// What brings the file from the version before to this one.
const STEPS: [&str; 2] = [
    // 1
    "
    CREATE TABLE runs (
        run       TEXT PRIMARY KEY,
        tenant    TEXT NOT NULL,
        instance  TEXT NOT NULL,            -- '' is the tenant as a whole
        verb      TEXT NOT NULL,            -- the word
        job       TEXT NOT NULL,            -- all of it, as JSON
        schedule  TEXT,
        due       INTEGER,                  -- times are microseconds
        attempt   INTEGER NOT NULL,
        at        INTEGER NOT NULL,         -- not to be begun before
        started   INTEGER,
        ended     INTEGER,
        listed    INTEGER NOT NULL,         -- where it stands in lists: begun, else due or asked for
        outcome   TEXT,
        exit      INTEGER,
        reason    TEXT,
        transient INTEGER NOT NULL DEFAULT 0,
        answer    TEXT,
        evidence  TEXT
    ) STRICT;
    CREATE UNIQUE INDEX runs_once ON runs (tenant, schedule, instance, due, attempt) WHERE schedule IS NOT NULL;
    CREATE INDEX runs_of ON runs (tenant, instance, listed);
    CREATE INDEX runs_listed ON runs (listed);
    CREATE INDEX runs_schedule ON runs (tenant, schedule, listed);
    CREATE INDEX runs_passed ON runs (tenant, ended) WHERE outcome = 'passed';
    CREATE INDEX runs_open ON runs (at) WHERE ended IS NULL;

    CREATE TABLE dues (
        tenant    TEXT NOT NULL,
        schedule  TEXT NOT NULL,
        instance  TEXT NOT NULL,
        due       INTEGER NOT NULL,
        PRIMARY KEY (tenant, schedule, instance)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE rebuilt (
        tenant    TEXT PRIMARY KEY,
        at        INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE events (
        run       TEXT NOT NULL,
        number    INTEGER NOT NULL,
        at        INTEGER NOT NULL,
        event     TEXT NOT NULL,
        PRIMARY KEY (run, number)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX events_at ON events (at);

    CREATE TABLE facts (
        tenant    TEXT NOT NULL,
        instance  TEXT NOT NULL,
        looked    INTEGER NOT NULL,
        facts     TEXT NOT NULL,
        PRIMARY KEY (tenant, instance)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE sizes (
        tenant    TEXT NOT NULL,
        instance  TEXT NOT NULL,
        day       INTEGER NOT NULL,         -- since 1970
        at        INTEGER NOT NULL,
        bytes     INTEGER NOT NULL,
        PRIMARY KEY (tenant, day, instance)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE activity (
        number    INTEGER PRIMARY KEY,
        at        INTEGER NOT NULL,
        tenant    TEXT,
        activity  TEXT NOT NULL
    ) STRICT;
    CREATE INDEX activity_at ON activity (at);
    CREATE INDEX activity_of ON activity (tenant, at);

    CREATE TABLE sessions (
        hash      TEXT PRIMARY KEY,
        expires   INTEGER NOT NULL,
        session   TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE planned (
        tenant    TEXT PRIMARY KEY,
        until     INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE conditions (
        key       TEXT PRIMARY KEY,
        condition TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    -- Counters for metrics: they never shrink, also when runs are forgotten. Runs that are only heard of are not counted:
    -- a rebuilt state would look like a flood of runs. `bucket` is that of totals.rs, or -1 for what was never begun.
    CREATE TABLE run_totals (
        tenant    TEXT NOT NULL,
        verb      TEXT NOT NULL,
        outcome   TEXT NOT NULL,
        bucket    INTEGER NOT NULL,
        runs      INTEGER NOT NULL,
        seconds   REAL NOT NULL,
        PRIMARY KEY (tenant, verb, outcome, bucket)
    ) STRICT, WITHOUT ROWID;
    CREATE TRIGGER runs_counted AFTER UPDATE OF ended ON runs
    WHEN old.ended IS NULL AND new.ended IS NOT NULL AND new.outcome IS NOT NULL
    BEGIN
        INSERT INTO run_totals VALUES (
            new.tenant, new.verb, new.outcome,
            CASE
                WHEN new.started IS NULL THEN -1
                WHEN new.ended - new.started <= 10000000 THEN 0
                WHEN new.ended - new.started <= 30000000 THEN 1
                WHEN new.ended - new.started <= 60000000 THEN 2
                WHEN new.ended - new.started <= 300000000 THEN 3
                WHEN new.ended - new.started <= 900000000 THEN 4
                WHEN new.ended - new.started <= 1800000000 THEN 5
                WHEN new.ended - new.started <= 3600000000 THEN 6
                WHEN new.ended - new.started <= 7200000000 THEN 7
                WHEN new.ended - new.started <= 14400000000 THEN 8
                WHEN new.ended - new.started <= 43200000000 THEN 9
                ELSE 10
            END,
            1,
            coalesce(max(new.ended - new.started, 0) / 1000000.0, 0.0)
        ) ON CONFLICT DO UPDATE SET runs = runs + 1, seconds = seconds + excluded.seconds;
    END;

    CREATE TABLE notice_totals (
        channel   TEXT NOT NULL,
        result    TEXT NOT NULL,
        messages  INTEGER NOT NULL,
        PRIMARY KEY (channel, result)
    ) STRICT, WITHOUT ROWID;
    ",
    // 2
    "
    ALTER TABLE activity ADD COLUMN class INTEGER NOT NULL DEFAULT 0;   -- that of activity.rs
    ALTER TABLE activity ADD COLUMN owed INTEGER NOT NULL DEFAULT 0;    -- 1: an act that its tenant's ledger has not yet
    UPDATE activity SET class = CASE WHEN activity ->> '$.who' LIKE 'unknown at %' THEN 2 ELSE 1 END
        WHERE NOT (activity ->> '$.allowed');
    CREATE INDEX activity_class ON activity (class);
    CREATE INDEX activity_owed ON activity (tenant) WHERE owed = 1;
    ",
];

/// Brings the file to the newest version.
///
/// # Errors
/// Also for a file of a newer release, which is left as it is.
pub(super) fn migrate(connection: &Connection) -> rusqlite::Result<()> {
    migrate_to(connection, STEPS.len())
}

/// The same, up to a version.
pub(super) fn migrate_to(connection: &Connection, wanted: usize) -> rusqlite::Result<()> {
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let version = version as usize;
    if version > STEPS.len() {
        let why = format!("its form is {version}, and this release knows up to {}", STEPS.len());
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_SCHEMA), Some(why)));
    }
    for (done, step) in STEPS.iter().enumerate().take(wanted).skip(version) {
        connection.execute_batch(&format!("BEGIN; {step} PRAGMA user_version = {}; COMMIT;", done + 1))?;
    }
    Ok(())
}
