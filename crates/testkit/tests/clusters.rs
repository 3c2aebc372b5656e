//! Throw-away clusters and what befalls them: on with `LIFEBOAT_TESTBED=1`.

use anyhow::Result;
use lifeboat_testkit::{
    postgres::{Options, Postgres, versions},
    testbed,
};

#[test]
fn a_standby_takes_over_under_load() -> Result<()> {
    if !testbed::enabled() {
        return Ok(());
    }
    for major in versions().into_iter().filter(|major| [15, 17].contains(major)) {
        let mut primary = Postgres::start(major, &Options::default())?;
        primary.pgbench_init("postgres", 1)?;
        primary.create_slot("idle")?;
        let standby = primary.standby("standby")?;
        let slots = "SELECT string_agg(slot_name, ',' ORDER BY 1) FROM pg_replication_slots";
        assert_eq!(primary.psql("postgres", slots)?, "idle,standby");

        let script = primary.script("insert.sql", "INSERT INTO pgbench_history (tid) VALUES (1);\n")?;
        primary.pgbench(&["-n", "-t", "100", "-f", &script, "postgres"])?.finish()?;
        let mut load = primary.pgbench(&["-n", "-c", "2", "-T", "60", "postgres"])?;
        primary.wait_for("SELECT count(*) > 200 FROM pgbench_history", "t")?;
        primary.wait_for_replay(&standby)?;
        assert!(load.is_running());
        assert!(!load.stop()?.0.success());

        primary.restart()?;
        primary.wait_for_replay(&standby)?;
        let count = primary.psql("postgres", "SELECT count(*) FROM pgbench_history")?;
        primary.stop_immediate()?;
        standby.promote()?;
        assert_eq!(standby.psql("postgres", "SELECT count(*) FROM pgbench_history")?, count);
        primary.resume()?;
        assert_eq!(primary.psql("postgres", "SELECT count(*) FROM pgbench_history")?, count, "{major}: recovered");
    }
    Ok(())
}
