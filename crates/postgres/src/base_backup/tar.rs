//! Cuts the tar stream of a base backup into files, on the fly.
//!
//! This is not a general tar reader. PostgreSQL writes ustar headers of three kinds only (file, directory, symlink), with
//! names of at most 99 bytes: it refuses longer ones itself, so there are no GNU or pax extensions. Numbers too large for
//! octal are base-256. Anything else is refused rather than guessed, for a wrong guess would be a wrong restore.

use bytes::{Buf as _, Bytes};

use super::BackupEvent;

const BLOCK: usize = 512;

/// What the tar stream did not get right.
pub(super) type TarResult<T> = Result<T, String>;

/// Reads one archive, given to it in pieces of any size.
pub(super) struct TarReader {
    /// Put before each name: nothing, or `pg_tblspc/<oid>/`.
    prefix: String,
    state: State,
    /// A header that came in more than one piece.
    header: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Content {
        left: u64,
        padding: usize,
    },
    Padding {
        left: usize,
    },
    /// After a block of zeros. Servers before 15 leave these blocks away.
    Trailer,
}

impl TarReader {
    pub(super) fn new(prefix: String) -> Self {
        TarReader { prefix, state: State::Header, header: Vec::with_capacity(BLOCK) }
    }

    /// The next event in the piece; takes what it used off its front. `None`: the piece is used up.
    pub(super) fn next(&mut self, piece: &mut Bytes) -> TarResult<Option<BackupEvent>> {
        loop {
            match self.state {
                State::Header if piece.is_empty() => return Ok(None),
                State::Header => {
                    if let Some(event) = self.header(piece)? {
                        return Ok(Some(event));
                    }
                }
                State::Content { left: 0, padding } => {
                    self.state = if padding == 0 { State::Header } else { State::Padding { left: padding } };
                    return Ok(Some(BackupEvent::EndFile));
                }
                State::Content { .. } if piece.is_empty() => return Ok(None),
                State::Content { left, padding } => {
                    let len = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
                    self.state = State::Content { left: left - len as u64, padding };
                    return Ok(Some(BackupEvent::Data(piece.split_to(len))));
                }
                State::Padding { left } => {
                    let len = left.min(piece.len());
                    piece.advance(len);
                    if len < left {
                        self.state = State::Padding { left: left - len };
                        return Ok(None);
                    }
                    self.state = State::Header;
                }
                State::Trailer => {
                    if piece.iter().any(|byte| *byte != 0) {
                        return Err("bytes after the end of an archive".into());
                    }
                    piece.clear();
                    return Ok(None);
                }
            }
        }
    }

    /// The archive is over: nothing may be open.
    pub(super) fn finish(&self) -> TarResult<()> {
        match self.state {
            State::Trailer => Ok(()),
            State::Header if self.header.is_empty() => Ok(()),
            _ => Err("an archive ends in the middle of a file".into()),
        }
    }

    fn header(&mut self, piece: &mut Bytes) -> TarResult<Option<BackupEvent>> {
        if self.header.is_empty() && piece.len() >= BLOCK {
            let block = piece.split_to(BLOCK);
            return self.parse(&block);
        }
        let len = (BLOCK - self.header.len()).min(piece.len());
        self.header.extend_from_slice(&piece.split_to(len));
        if self.header.len() < BLOCK {
            return Ok(None);
        }
        let block = std::mem::replace(&mut self.header, Vec::with_capacity(BLOCK));
        self.parse(&block)
    }

    /// One header block; `None` for the block of zeros that ends an archive.
    fn parse(&mut self, block: &[u8]) -> TarResult<Option<BackupEvent>> {
        if block.iter().all(|byte| *byte == 0) {
            self.state = State::Trailer;
            return Ok(None);
        }
        check_sum(block)?;
        let path = self.path(block)?;
        let field = |at: usize, len: usize, what: &str| {
            number(&block[at..at + len])
                .ok_or_else(|| format!("{}: {what} is not a number", String::from_utf8_lossy(&path)))
        };
        let id = |at: usize, what: &str| {
            let id = field(at, 8, what)?;
            u32::try_from(id).map_err(|_| format!("{what} {id} is out of range"))
        };
        let mode = u32::try_from(field(100, 8, "mode")? & 0o7777).unwrap_or(0);
        let (uid, gid) = (id(108, "uid")?, id(116, "gid")?);
        let size = field(124, 12, "size")?;
        let mtime = i64::try_from(field(136, 12, "mtime")?).map_err(|_| "mtime is out of range".to_owned())?;
        match block[156] {
            b'0' | 0 => {
                let padding = (BLOCK - (size % BLOCK as u64) as usize) % BLOCK;
                self.state = State::Content { left: size, padding };
                Ok(Some(BackupEvent::File { path, mode, uid, gid, mtime, size }))
            }
            b'5' => Ok(Some(BackupEvent::Directory { path, mode, uid, gid, mtime })),
            b'2' => {
                let target = until_nul(&block[157..257]).to_vec();
                Ok(Some(BackupEvent::Symlink { path, target, mode, uid, gid, mtime }))
            }
            kind => Err(format!("{}: entry of unknown kind {kind:#04x}", String::from_utf8_lossy(&path))),
        }
    }

    /// The path below PGDATA. A server cannot make us write elsewhere.
    fn path(&self, block: &[u8]) -> TarResult<Vec<u8>> {
        let mut name = until_nul(&block[..100]).to_vec();
        let directory = until_nul(&block[345..500]);
        if !directory.is_empty() {
            name = [directory, b"/", &name].concat();
        }
        let name = name.strip_prefix(b"./").unwrap_or(&name);
        // PostgreSQL ends the names of directories and of links to directories with a slash.
        let name = name.strip_suffix(b"/").unwrap_or(name);
        let is_bad = |part: &[u8]| part.is_empty() || part == b"." || part == b"..";
        if name.split(|byte| *byte == b'/').any(is_bad) {
            return Err(format!("refusing the name \"{}\"", String::from_utf8_lossy(name)));
        }
        Ok([self.prefix.as_bytes(), name].concat())
    }
}

fn until_nul(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// Octal digits, ended by NUL or space; or base-256 where the first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let first = u64::from(field[0] & 0x7f);
        return field[1..].iter().try_fold(first, |sum, byte| Some(sum.checked_mul(256)? + u64::from(*byte)));
    }
    let digits = std::str::from_utf8(until_nul(field)).ok()?.trim_matches(' ');
    if digits.is_empty() {
        return Some(0);
    }
    u64::from_str_radix(digits, 8).ok()
}

/// The sum of the block's bytes, with the field of the sum itself taken as spaces.
fn check_sum(block: &[u8]) -> TarResult<()> {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    let expected = sum(&block[..148]) + 8 * u64::from(b' ') + sum(&block[156..]);
    match number(&block[148..156]) {
        Some(found) if found == expected => Ok(()),
        _ => Err("a tar header with a wrong checksum".into()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A header as PostgreSQL writes it.
    pub(crate) fn header(name: &str, kind: u8, size: u64, target: &str) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[100..107].copy_from_slice(b"0000600");
        block[108..115].copy_from_slice(b"0000147");
        block[116..123].copy_from_slice(b"0000150");
        if size < 1 << 33 {
            block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
        } else {
            block[124] = 0x80;
            block[128..136].copy_from_slice(&size.to_be_bytes());
        }
        block[136..147].copy_from_slice(b"14541433062");
        block[156] = kind;
        block[157..157 + target.len()].copy_from_slice(target.as_bytes());
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[148..156].copy_from_slice(b"        ");
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        block
    }

    /// All events of an archive that comes in pieces of this length, data joined.
    fn events(archive: &[u8], piece_len: usize) -> TarResult<Vec<String>> {
        let mut reader = TarReader::new("p/".into());
        let (mut out, mut data) = (Vec::new(), Vec::new());
        for piece in archive.chunks(piece_len) {
            let mut piece = Bytes::copy_from_slice(piece);
            while let Some(event) = reader.next(&mut piece)? {
                match event {
                    BackupEvent::Data(bytes) => data.extend_from_slice(&bytes),
                    BackupEvent::EndFile => out.push(format!("end {}", std::mem::take(&mut data).len())),
                    BackupEvent::File { path, mode, uid, gid, mtime, size } => {
                        let path = String::from_utf8(path).unwrap();
                        out.push(format!("file {path} {mode:o} {uid} {gid} {mtime} {size}"));
                    }
                    BackupEvent::Directory { path, .. } => {
                        out.push(format!("dir {}", String::from_utf8(path).unwrap()));
                    }
                    BackupEvent::Symlink { path, target, .. } => out.push(format!(
                        "link {} {}",
                        String::from_utf8(path).unwrap(),
                        String::from_utf8(target).unwrap()
                    )),
                    other => panic!("{other:?}"),
                }
            }
        }
        reader.finish()?;
        Ok(out)
    }

    fn archive() -> Vec<u8> {
        let long = "x".repeat(99);
        let mut archive = header("base/", b'5', 0, "");
        archive.extend(header("base/1", b'0', 700, ""));
        archive.extend(vec![7; 700]);
        archive.extend(vec![0; 324]);
        archive.extend(header("empty", b'0', 0, ""));
        archive.extend(header(&long, b'0', 512, ""));
        archive.extend(vec![8; 512]);
        archive.extend(header("pg_tblspc/16385/", b'2', 0, "/srv/ts"));
        archive
    }

    #[test]
    fn any_cut_gives_the_same_files() {
        let expected = [
            "dir p/base".to_owned(),
            "file p/base/1 600 103 104 1703294514 700".to_owned(),
            "end 700".to_owned(),
            "file p/empty 600 103 104 1703294514 0".to_owned(),
            "end 0".to_owned(),
            format!("file p/{} 600 103 104 1703294514 512", "x".repeat(99)),
            "end 512".to_owned(),
            "link p/pg_tblspc/16385 /srv/ts".to_owned(),
        ];
        let with_trailer = [archive(), vec![0; 1024]].concat();
        for piece_len in [1, 7, 511, 512, 513, 1024, 10_000] {
            assert_eq!(events(&archive(), piece_len).unwrap(), expected, "{piece_len}");
            assert_eq!(events(&with_trailer, piece_len).unwrap(), expected, "{piece_len}");
        }
    }

    #[test]
    fn large_sizes_are_base_256() {
        let mut reader = TarReader::new(String::new());
        let mut piece = Bytes::from(header("core", b'0', 1 << 40, ""));
        let Some(BackupEvent::File { size, .. }) = reader.next(&mut piece).unwrap() else { panic!("no file") };
        assert_eq!(size, 1 << 40);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let check = |archive: Vec<u8>, words: &str| {
            let error = events(&archive, 512).unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        check(header("../etc/passwd", b'0', 0, ""), "refusing the name");
        check(header("/etc/passwd", b'0', 0, ""), "refusing the name");
        check(header("a//b", b'0', 0, ""), "refusing the name");
        check(header("a", b'L', 0, ""), "unknown kind");
        check(header("a", b'0', 10, ""), "in the middle");
        check([vec![0; 512], vec![1; 512]].concat(), "after the end");
        let mut flipped = header("a", b'0', 0, "");
        flipped[3] ^= 1;
        check(flipped, "wrong checksum");
    }
}
