//! A server that has said all it had to say and is gone, where the client notices first that it is not heard any more: a fast
//! shutdown, on a machine that is quicker than the line. Its last words lie there to be read.

use anyhow::Result;
use lifeboat_model::lsn::Lsn;
use lifeboat_postgres::{ConnectOptions, Error, Replication, TlsMode};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{error, greet, message};

const START: Lsn = Lsn(0x100_0000);
const CHUNK: u64 = 64;
/// What a stream holds for a receiver that takes nothing: what comes behind it stays unread.
const HELD: u64 = 16;

/// A result of one row with these columns.
fn row(columns: &[&str]) -> Vec<u8> {
    let count = i16::try_from(columns.len()).expect("few columns").to_be_bytes();
    let (mut names, mut values) = (count.to_vec(), count.to_vec());
    for column in columns {
        names.extend_from_slice(b"column\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
        values.extend_from_slice(&i32::try_from(column.len()).expect("short values").to_be_bytes());
        values.extend_from_slice(column.as_bytes());
    }
    [message(b'T', &names), message(b'D', &values), message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat()
}

/// Streams as much as the client holds, says its last words, and goes when it has heard from the client, without having
/// read that: the kernel then refuses whatever comes later.
async fn serve(mut client: TcpStream, last_words: Vec<u8>) -> Result<()> {
    greet(&mut client, "18.1").await?;
    let mut stream = message(b'W', &[0, 0, 0]);
    for number in 0..HELD {
        let at = START.0 + number * CHUNK;
        let header = [at.to_be_bytes(), (START.0 + HELD * CHUNK).to_be_bytes(), [0; 8]].concat();
        stream.extend(message(b'd', &[&b"w"[..], &header, &[7; CHUNK as usize]].concat()));
    }
    stream.extend(last_words);
    for answer in [row(&["60s"]), row(&["7318464283462834", "1", "0/1000000", ""]), stream] {
        assert_eq!(client.read_u8().await?, b'Q');
        let length = client.read_u32().await?;
        client.read_exact(&mut vec![0; length as usize - 4]).await?;
        client.write_all(&answer).await?;
    }
    Ok(client.readable().await?)
}

async fn ended(last_words: Vec<u8>) -> Result<Error> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let mut options = ConnectOptions::new("127.0.0.1", listener.local_addr()?.port(), "lifeboat");
    options.tls = TlsMode::Disable;
    let server = tokio::spawn(async move { serve(listener.accept().await?.0, last_words).await });
    let mut stream = Replication::connect(&options).await?.start_wal(START, 1, None).await?;
    stream.acknowledge(START);
    server.await??;
    // Time to take what it holds; then this is what nobody hears.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    stream.acknowledge(Lsn(START.0 + 1));
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    for _ in 0..HELD {
        assert!(stream.next().await?.is_some(), "what it held is not lost");
    }
    Ok(stream.next().await.expect_err("the server is gone"))
}

#[tokio::test]
async fn the_last_words_of_a_server_that_is_gone_are_heard() -> Result<()> {
    let all = Lsn(START.0 + HELD * CHUNK);
    let stopped = ended(message(b'C', b"COPY 0\0")).await?;
    assert!(matches!(&stopped, Error::ServerStopped { end, .. } if *end == all), "{stopped:?}");
    let told = ended(error("57P01", "ProcessInterrupts")).await?;
    assert!(matches!(&told, Error::ServerUnavailable { .. }), "{told:?}");
    // WAL that was on its way is not taken for the end, and without last words there are none.
    let more = [&b"w"[..], &all.0.to_be_bytes(), &[0; 16], b"more"].concat();
    for rest in [[message(b'd', &more), message(b'C', b"COPY 0\0")].concat(), Vec::new()] {
        let lost = ended(rest).await?;
        assert!(matches!(&lost, Error::ConnectionLost { .. }) && lost.is_transient(), "{lost:?}");
    }
    Ok(())
}
