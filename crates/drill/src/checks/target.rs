//! Rung 9, before anything is changed: the server at the other end is the one in the sandbox.
//!
//! Statements that make a copy harmless would stop a hospital if they reached the original. So the server is asked for something
//! that only the sandbox's can know: a random word in a file of this drill's own folder, which it must read through its mount.
//! Then for what a copy has and the original cannot have: the data folder's place in the sandbox, and the timeline that it chose
//! when it promoted itself, which is later than any the original was on when the backup was taken.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use tokio_postgres::Client;

use crate::{
    error::{Error, Result},
    ladder::Answer,
    postgres::{PGDATA, Server},
};

/// What a server says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    word: String,
    folder: String,
    /// None over a socket, and that is a file in the drill's folder.
    address: Option<IpAddr>,
    in_recovery: bool,
    timeline: u32,
}

/// What the sandbox's server must say.
#[derive(Debug)]
struct Wanted {
    word: String,
    /// The container's.
    address: Option<IpAddr>,
    /// None where nothing was replayed: a dump was loaded into a cluster that was made here.
    timeline: Option<u32>,
}

/// Asks the server behind every session.
pub(crate) async fn confirm(server: &Server, settings: &Path, clients: &[(String, Client)]) -> Result<Answer> {
    let (word, name) = (random()?, format!("sandbox-{}", random()?));
    let file = settings.join(&name);
    std::fs::write(&file, &word).map_err(Error::io("cannot write", &file))?;
    let wanted = Wanted { word, address: Some(server.address()), timeline: server.replay().timeline };
    let mut wrong = Vec::new();
    for (database, client) in clients {
        let seen = ask(client, &server.inside(&name)).await;
        match seen {
            Ok(seen) => wrong.extend(differences(&wanted, &seen).into_iter().map(|why| format!("{database}: {why}"))),
            // Any other server does not have the file.
            Err(error) => wrong.push(format!("{database}: {}", crate::error::with_causes(&error))),
        }
    }
    std::fs::remove_file(&file).map_err(Error::io("cannot remove", &file))?;
    Ok(match wrong.is_empty() {
        true => Answer::passed(format!(
            "the sandbox's own server{}",
            wanted.timeline.map(|timeline| format!(", on its own timeline {timeline}")).unwrap_or_default()
        )),
        false => Answer::failed(format!("refused: this could be production: {}", wrong.join("; ")))
            .in_public("refused: the server that answers could be production"),
    })
}

async fn ask(client: &Client, file: &str) -> Result<Identity> {
    let query = "SELECT pg_read_file($1), current_setting('data_directory'), host(inet_server_addr()), pg_is_in_recovery(), \
                        CASE WHEN pg_is_in_recovery() THEN '' ELSE substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) END";
    let failed = || Error::sql("ask the server who it is");
    let row = client.query_one(query, &[&file]).await.map_err(failed())?;
    let address: Option<String> = row.try_get(2).map_err(failed())?;
    let timeline: String = row.try_get(4).map_err(failed())?;
    Ok(Identity {
        word: row.try_get(0).map_err(failed())?,
        folder: row.try_get(1).map_err(failed())?,
        address: address.and_then(|address| address.parse().ok()),
        in_recovery: row.try_get(3).map_err(failed())?,
        timeline: u32::from_str_radix(&timeline, 16).unwrap_or(0),
    })
}

fn differences(wanted: &Wanted, seen: &Identity) -> Vec<String> {
    let mut wrong = Vec::new();
    if seen.word != wanted.word {
        wrong.push("the server does not see this drill's folder".to_owned());
    }
    if seen.folder != PGDATA {
        wrong.push(format!("its data is in {}, not in {PGDATA}", seen.folder));
    }
    let own = |address: IpAddr| Some(address) == wanted.address || address == IpAddr::V4(Ipv4Addr::LOCALHOST);
    if let Some(address) = seen.address.filter(|address| !own(*address)) {
        wrong.push(format!("it answers at {address}, which is not the sandbox's address"));
    }
    if seen.in_recovery {
        wrong.push("it is in recovery".to_owned());
    }
    if let Some(timeline) = wanted.timeline.filter(|timeline| *timeline != seen.timeline || *timeline < 2) {
        wrong.push(format!("it writes timeline {}, the sandbox's server chose {timeline}", seen.timeline));
    }
    wrong
}

fn random() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| Error::NoRandomness)?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_difference_refuses() {
        let address = |last| Some(IpAddr::V4(Ipv4Addr::new(172, 18, 0, last)));
        let wanted = Wanted { word: "w".into(), address: address(2), timeline: Some(3) };
        let own =
            Identity { word: "w".into(), folder: PGDATA.into(), address: address(2), in_recovery: false, timeline: 3 };
        assert_eq!(differences(&wanted, &own), [] as [String; 0]);
        assert_eq!(differences(&wanted, &Identity { address: None, ..own.clone() }), [] as [String; 0]);
        for other in [
            Identity { word: "x".into(), ..own.clone() },
            Identity { folder: "/var/lib/postgresql/data".into(), ..own.clone() },
            Identity { address: address(9), ..own.clone() },
            Identity { in_recovery: true, ..own.clone() },
            Identity { timeline: 2, ..own.clone() },
        ] {
            assert_eq!(differences(&wanted, &other).len(), 1, "{other:?}");
        }
        let dump = Wanted { timeline: None, ..wanted };
        assert_eq!(differences(&dump, &Identity { timeline: 1, ..own }), [] as [String; 0]);
    }
}
