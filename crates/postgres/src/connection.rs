//! Framing: messages in and out of a transport.
//!
//! Reads are large, and what a server copies out is handed on as slices of the read buffer: on the way from the socket to
//! the chunker no byte of a backup is copied. `postgres-protocol` parses all but three messages: `CopyData` (so that it
//! stays a slice), `CopyBothResponse` (which it does not know), and errors (kept in our own form).

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use postgres_protocol::message::{
    backend::{COPY_DATA_TAG, ErrorFields, Header, Message},
    frontend,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tokio_postgres::fallible_iterator::FallibleIterator as _;

use crate::{
    error::{Error, Result, ServerError},
    transport::Transport,
};

/// One buffer of this size is filled, handed on in slices and replaced; it is freed when its last slice is.
const READ_SIZE: usize = 256 << 10;
/// With less room than this a new buffer is begun; only the start of an incomplete message moves over.
const MIN_ROOM: usize = 64 << 10;
/// No message of a server is longer: WAL comes in 128 KiB, files in 32 KiB. Bounds what a stranger can make us hold.
const MAX_MESSAGE: usize = 16 << 20;
const HEADER: usize = 5;
const COPY_BOTH_TAG: u8 = b'W';

/// A message of the server.
pub(crate) enum Backend {
    /// A piece of a copy.
    CopyData(Bytes),
    /// A replication stream begins; both sides may send from now on.
    CopyBoth,
    /// An error; the server sends `ReadyForQuery` next, or closes.
    Error(ServerError),
    /// A notice or warning.
    Notice(ServerError),
    /// Any other.
    Other(Message),
}

/// Framed messages over a transport.
pub(crate) struct Connection {
    transport: Transport,
    received: BytesMut,
    server: String,
}

impl Connection {
    pub(crate) fn new(transport: Transport, server: String) -> Self {
        Connection { transport, received: BytesMut::with_capacity(READ_SIZE), server }
    }

    /// `host:port`, for messages.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    pub(crate) fn is_private(&self) -> bool {
        self.transport.is_private
    }

    pub(crate) fn channel_binding(&self) -> Option<Vec<u8>> {
        self.transport.channel_binding.clone()
    }

    /// Sends bytes; the time is bounded by the caller or by TCP.
    pub(crate) async fn write(&mut self, bytes: &[u8], during: &'static str) -> Result<()> {
        let sent = async {
            self.transport.write_all(bytes).await?;
            self.transport.flush().await
        };
        let sent = sent.await;
        sent.map_err(|error| self.lost(during, error.to_string()))
    }

    /// Sends a simple query or replication command.
    pub(crate) async fn query(&mut self, command: &str) -> Result<()> {
        let mut buf = BytesMut::new();
        frontend::query(command, &mut buf)
            .map_err(|error| Error::Invalid { what: "a replication command", reason: error.to_string() })?;
        self.write(&buf, "sending a command").await
    }

    /// The next message. Dropping the future loses nothing.
    pub(crate) async fn read(&mut self, during: &'static str) -> Result<Backend> {
        loop {
            if let Some(message) = self.buffered(during)? {
                return Ok(message);
            }
            if self.received.capacity() - self.received.len() < MIN_ROOM {
                self.received.reserve(READ_SIZE);
            }
            match self.transport.read_buf(&mut self.received).await {
                Ok(0) => return Err(self.lost(during, "the server closed it".into())),
                Ok(_) => {}
                Err(error) => return Err(self.lost(during, error.to_string())),
            }
        }
    }

    /// The next message, or [`Error::Timeout`] when nothing comes for this long.
    pub(crate) async fn read_within(&mut self, limit: Duration, during: &'static str) -> Result<Backend> {
        if let Some(message) = self.buffered(during)? {
            return Ok(message);
        }
        match timeout(limit, self.read(during)).await {
            Ok(message) => message,
            Err(_) => Err(Error::Timeout { server: self.server.clone(), during, after: limit }),
        }
    }

    /// A message that has been received completely already.
    fn buffered(&mut self, during: &'static str) -> Result<Option<Backend>> {
        parse(&mut self.received).map_err(|error| self.garbled(during, &error))
    }

    pub(crate) fn lost(&self, during: &'static str, reason: String) -> Error {
        Error::ConnectionLost { server: self.server.clone(), during, reason }
    }

    pub(crate) fn garbled(&self, during: &'static str, error: &std::io::Error) -> Error {
        self.unexpected(during, &error.to_string())
    }

    pub(crate) fn unexpected(&self, during: &'static str, reason: &str) -> Error {
        Error::Protocol { server: self.server.clone(), during, reason: reason.into() }
    }

    /// Says good-bye, without waiting long for it.
    pub(crate) async fn close(mut self) {
        let mut buf = BytesMut::new();
        frontend::terminate(&mut buf);
        let farewell = async {
            self.transport.write_all(&buf).await?;
            self.transport.shutdown().await
        };
        if let Ok(Err(error)) = timeout(Duration::from_secs(2), farewell).await {
            tracing::debug!(server = %self.server, %error, "closing a connection");
        }
    }
}

/// Takes one message off the front, or `None` while it is incomplete.
pub(crate) fn parse(received: &mut BytesMut) -> std::io::Result<Option<Backend>> {
    let Some(header) = Header::parse(received)? else {
        return Ok(None);
    };
    // `Header::parse` refuses lengths below 4.
    let total = usize::try_from(header.len()).unwrap_or(usize::MAX).saturating_add(1);
    if total > MAX_MESSAGE {
        return Err(std::io::Error::other(format!("a message of {total} bytes")));
    }
    if received.len() < total {
        return Ok(None);
    }
    match header.tag() {
        COPY_DATA_TAG => {
            let mut message = received.split_to(total);
            message.advance(HEADER);
            Ok(Some(Backend::CopyData(message.freeze())))
        }
        COPY_BOTH_TAG => {
            received.advance(total);
            Ok(Some(Backend::CopyBoth))
        }
        _ => Ok(Message::parse(received)?.map(sorted).transpose()?),
    }
}

fn sorted(message: Message) -> std::io::Result<Backend> {
    Ok(match message {
        Message::ErrorResponse(body) => Backend::Error(server_error(body.fields())?),
        Message::NoticeResponse(body) => Backend::Notice(server_error(body.fields())?),
        message => Backend::Other(message),
    })
}

fn server_error(mut fields: ErrorFields<'_>) -> std::io::Result<ServerError> {
    let mut error = ServerError::default();
    while let Some(field) = fields.next()? {
        let text = || String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'S' if error.severity.is_empty() => error.severity = text(),
            b'V' => error.severity = text(),
            b'C' => error.code = text(),
            b'M' => error.message = text(),
            b'D' => error.detail = Some(text()),
            b'H' => error.hint = Some(text()),
            b'R' => error.routine = Some(text()),
            _ => {}
        }
    }
    Ok(error)
}

/// The columns of a row, in text form.
pub(crate) fn columns(row: &postgres_protocol::message::backend::DataRowBody) -> std::io::Result<Vec<Option<Bytes>>> {
    let buffer = row.buffer_bytes();
    row.ranges().map(|range| Ok(range.map(|range| buffer.slice(range)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_data_is_a_slice_of_what_was_received() {
        let mut received = BytesMut::from(&b"d\0\0\0\x07abcd\0\0\0\x05"[..]);
        let base = received.as_ptr();
        let Some(Backend::CopyData(bytes)) = parse(&mut received).unwrap() else { panic!("no copy data") };
        assert_eq!(bytes, "abc");
        assert_eq!(bytes.as_ptr(), base.wrapping_add(HEADER));
        assert!(parse(&mut received).unwrap().is_none(), "the second message is incomplete");
    }

    #[test]
    fn absurd_lengths_are_refused() {
        assert!(parse(&mut BytesMut::from(&b"d\x7f\0\0\0"[..])).is_err());
        assert!(parse(&mut BytesMut::from(&b"d\0\0\0\x01"[..])).is_err());
        assert!(parse(&mut BytesMut::from(&b"\xff\0\0\0\x04"[..])).is_err());
    }

    #[test]
    fn errors_keep_their_fields() {
        let mut received = BytesMut::from(&b"E\0\0\0\x26SFATAL\0VFATAL\0C28P01\0Mno\0Rauth_x\0\0"[..]);
        let Some(Backend::Error(error)) = parse(&mut received).unwrap() else { panic!("no error") };
        assert_eq!((error.code.as_str(), error.message.as_str()), ("28P01", "no"));
        assert_eq!(error.routine.as_deref(), Some("auth_x"));
    }
}
